"""One page in, what it says out: draws it, chooses the engine, reads, and times it.

Free of Django, so that a spawned process reads pages without it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from mlops.engines import EngineCache
from mlops.exceptions import EngineUnavailable, JobFailed
from ocr import auto, routing
from ocr.engines.base import Reading
from ocr.languages import AUTO
from ocr.pages import BadPage, PageImage, PageSource
from ocr.reading import page_text


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """How pages are to be read; `engine` may be "auto", `languages` ("auto",)."""

    engine: str
    languages: tuple[str, ...]
    default_engine: str


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """What became of one page. `lines` are plain JSON values, as PageResult keeps them."""

    width: int = 0
    height: int = 0
    dpi: int | None = None
    engine: str = ""
    language: str = ""
    model_version: str = ""
    device: str = ""
    seconds: float = 0.0
    text: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    mean_confidence: float | None = None
    note: str = ""
    error: str = ""


def read_page(
    source: PageSource, index: int, request: ReadRequest, engines: EngineCache
) -> PageOutcome:
    """Reads page `index` (from 0). One that can't be drawn or read is an outcome with `error`.

    Raises EngineUnavailable, which concerns every page.
    """
    started = time.perf_counter()
    try:
        page = source.render(index)
        return _read(page, request, engines, started)
    except EngineUnavailable:
        raise
    except (BadPage, JobFailed) as error:
        return PageOutcome(error=str(error), seconds=time.perf_counter() - started)


def _read(
    page: PageImage, request: ReadRequest, engines: EngineCache, started: float
) -> PageOutcome:
    image = page.array()
    choice = routing.choose(
        engines.specs,
        engine=request.engine,
        languages=request.languages,
        default=request.default_engine,
    )
    if AUTO in request.languages:
        choice, reading = auto.read(image, choice, free=request.engine == AUTO, engines=engines)
    else:
        reading = engines.get(choice.engine).read(image, languages=choice.languages)
    return PageOutcome(
        width=page.width,
        height=page.height,
        dpi=page.dpi,
        engine=choice.engine,
        language=reading.language,
        model_version=reading.model_version,
        device=engines.get(choice.engine).device,
        seconds=time.perf_counter() - started,
        text=page_text(reading.lines),
        lines=_plain(reading),
        mean_confidence=_mean(reading),
        note=choice.note,
    )


def _plain(reading: Reading) -> list[dict[str, Any]]:
    return [
        {
            "text": line.text,
            "confidence": round(line.confidence, 4),
            "polygon": [[round(x, 1), round(y, 1)] for x, y in line.polygon],
        }
        for line in reading.lines
    ]


def _mean(reading: Reading) -> float | None:
    """Over characters, so that a stray mark counts less than a line of text; None without any."""
    weights = sum(len(line.text) for line in reading.lines)
    if not weights:
        return None
    total = sum(line.confidence * len(line.text) for line in reading.lines)
    return round(total / weights, 4)
