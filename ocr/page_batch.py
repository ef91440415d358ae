"""Several pages read together, so that their lines share the recogniser's batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mlops.engines import EngineCache
from mlops.exceptions import EngineUnavailable, JobFailed
from ocr.page_image import PageImage
from ocr.page_source import BadPage, PageSource
from ocr.reader import (
    PageOutcome,
    ReadRequest,
    choose_engine,
    finish_image,
    read_image,
    read_text_layer,
)

# A page's document, opened only once the page's turn has come.
Place = tuple[Callable[[], PageSource], int]


def read_pages(
    places: Sequence[Place], request: ReadRequest, engines: EngineCache
) -> list[PageOutcome]:
    """The outcome of each place (a document, and a page's number from 0), in their order.

    `seconds` is what the page took alone, and its share of what they took together. A page that
    can't be drawn or read is an outcome with `error`. Raises EngineUnavailable.
    """
    outcomes: dict[int, PageOutcome] = {}
    drawn: dict[int, tuple[PageImage, float]] = {}
    for number, (source, index) in enumerate(places):
        started = time.perf_counter()
        try:
            pages = source()
            outcome = read_text_layer(pages, index, request)
            if outcome is None:
                drawn[number] = pages.render(index), time.perf_counter() - started
            else:
                outcomes[number] = outcome
        except BadPage as error:
            outcomes[number] = PageOutcome(error=str(error), seconds=time.perf_counter() - started)
    outcomes |= _read(drawn, request, engines)
    return [outcomes[number] for number in range(len(places))]


def _read(
    drawn: dict[int, tuple[PageImage, float]], request: ReadRequest, engines: EngineCache
) -> dict[int, PageOutcome]:
    if len(drawn) > 1:
        choice = choose_engine(request, engines)
        engine = engines.get(choice.engine)
        if engine.batches:
            started = time.perf_counter()
            try:
                readings = engine.read_many(
                    [page.array() for page, _ in drawn.values()], languages=choice.languages
                )
            except EngineUnavailable:
                raise
            except (JobFailed, ValueError):
                # One page is at fault; read alone, the others don't suffer for it.
                return _alone(drawn, request, engines)
            share = (time.perf_counter() - started) / len(drawn)
            finished = {}
            for (number, (page, before)), reading in zip(drawn.items(), readings, strict=True):
                started = time.perf_counter()
                try:
                    outcome = finish_image(page, choice, reading, request, engines)
                except EngineUnavailable:
                    raise
                except JobFailed as error:
                    outcome = PageOutcome(error=str(error))
                after = time.perf_counter() - started
                finished[number] = replace(outcome, seconds=before + share + after)
            return finished
    return _alone(drawn, request, engines)


def _alone(
    drawn: dict[int, tuple[PageImage, float]], request: ReadRequest, engines: EngineCache
) -> dict[int, PageOutcome]:
    outcomes = {}
    for number, (page, before) in drawn.items():
        started = time.perf_counter()
        try:
            outcome = read_image(page, request, engines)
        except EngineUnavailable:
            raise
        except JobFailed as error:
            outcome = PageOutcome(error=str(error))
        outcomes[number] = replace(outcome, seconds=before + time.perf_counter() - started)
    return outcomes
