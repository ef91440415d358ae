"""What a batch's child process does: hold engines, open documents, read pages. No Django here."""

from __future__ import annotations

import logging.config
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mlops.engines import EngineCache, EngineSpec
from mlops.logs import logging_config
from ocr.formats import BadDocument, Limits
from ocr.page_batch import read_pages
from ocr.pages import BadPage, PageSource, open_pages
from ocr.reader import PageOutcome, ReadRequest

_engines: EngineCache
_limits: Limits
# The document that the last page was from: the next one is mostly from the same.
_open: dict[tuple[str, int], PageSource] = {}


def initialise(specs: dict[str, EngineSpec], threads: int, limits: Limits) -> None:
    """Called once in each child. `threads`: what one page may use."""
    global _engines, _limits
    # To stderr, as in the parent: stdout is for the figures that it prints.
    logging.config.dictConfig(logging_config(fmt="console", level="WARNING"))
    # Ctrl-C is the parent's to handle: it lets the page under way end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _engines = EngineCache(
        {
            alias: replace(spec, options={"threads": threads, **spec.options})
            for alias, spec in specs.items()
        }
    )
    _limits = limits


def read(places: Sequence[tuple[str, int]], dpi: int, request: ReadRequest) -> list[PageOutcome]:
    """Pages (a document's path, an index from 0), read together. Raises EngineUnavailable."""
    return read_pages(
        [(partial(_pages, path, dpi), index) for path, index in places], request, _engines
    )


def _pages(path: str, dpi: int) -> PageSource:
    key = (path, dpi)
    if key not in _open:
        while _open:
            _open.popitem()[1].close()
        try:
            _open[key] = open_pages(Path(path), dpi=dpi, limits=_limits)
        except (BadDocument, OSError) as error:
            # It was whole when the batch took it up.
            raise BadPage(f"The file changed while it was read: {error}") from error
    return _open[key]
