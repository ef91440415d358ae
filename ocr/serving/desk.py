"""Takes documents in, has their pages read, and keeps count of both."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog
from PIL import Image, ImageDraw, ImageFont

from mlops.engines import EngineSpec
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.serving.places import Places
from ocr.languages import AUTO
from ocr.pages import Limits, PageImage, PageSource, open_pages
from ocr.reader import PageOutcome, read_page
from ocr.serving.answers import Defaults, Question
from ocr.serving.lanes import Abandoned, LaneEngines, LaneOptions, Traffic
from ocr.serving.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """`queue`: requests that are held at once, waiting and under way."""

    defaults: Defaults
    lanes: LaneOptions
    limits: Limits
    queue: int


class Desk:
    """One a server. `load` first; until then, and when it is full, `place` raises Busy."""

    def __init__(self, specs: dict[str, EngineSpec], options: DeskOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self._places = Places(options.queue, self.metrics)
        self._traffic = Traffic()
        self.engines = LaneEngines(
            specs,
            options.lanes,
            main=options.defaults.engine,
            traffic=self._traffic,
            told=self._told,
        )
        # What a page takes of a lane, to tell the refused when to come back.
        self._page_seconds = 1.0
        # While lanes read, the pages of their next call are decoded and those of the last laid
        # out; memory holds as many pages as there are threads.
        self._ahead = options.lanes.count * (options.lanes.max_batch + 1)
        self._threads = ThreadPoolExecutor(self._ahead, thread_name_prefix="page")
        self.metrics.queue_depth.set_function(lambda: self.engines.depth)

    def load(self) -> None:
        """Loads the main engine and has each copy read a page. Raises EngineUnavailable."""
        lanes = self.engines.get(self.options.defaults.engine)
        page = PageImage(_warm_up_page()).array()
        for engine in lanes.copies:
            engine.read(page, languages=(AUTO,))
        self.metrics.model.info(
            {
                "engine": self.options.defaults.engine,
                "model_version": lanes.model_version,
                "device": lanes.device,
            }
        )
        self.metrics.loaded.set(1)
        self._places.open = True

    @property
    def loaded(self) -> bool:
        return self._places.open

    @property
    def cut_off(self) -> int:
        return self._places.cut_off

    def place(self) -> AbstractContextManager[None]:
        """A place for one request. Raises Busy."""
        return self._places.take(self._page_seconds / self.options.lanes.count)

    async def read(
        self, file: BinaryIO, question: Question, abandoned: threading.Event
    ) -> list[PageOutcome]:
        """Every page of the document. Once `abandoned` is set, what has not begun is left out.

        Raises ApplicationError (BadDocument among them) and EngineUnavailable.
        """
        loop = asyncio.get_running_loop()
        with tempfile.NamedTemporaryFile(prefix="ocr-") as copy:
            source = await loop.run_in_executor(
                self._threads, self._open, file, Path(copy.name), question.dpi
            )
            # No document has more than this many pages in line: shorter ones come in between.
            turn = asyncio.Semaphore(self._ahead)

            async def one(index: int) -> PageOutcome:
                async with turn:
                    self._traffic.expect(1)
                    return await loop.run_in_executor(
                        self._threads, self._page, source, index, question, abandoned
                    )

            pages = (one(index) for index in range(len(source)))
            outcomes = await asyncio.gather(*pages, return_exceptions=True)
            source.close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def expire(self) -> None:
        """A page under way can't be ended: its request is cut off."""

    def close(self) -> None:
        """What no thread has begun is left undone."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _open(self, file: BinaryIO, path: Path, dpi: int) -> PageSource:
        self._traffic.expect(1)
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            return open_pages(path, dpi=dpi, limits=self.options.limits)
        finally:
            self._traffic.expect(-1)

    def _page(
        self, source: PageSource, index: int, question: Question, abandoned: threading.Event
    ) -> PageOutcome:
        with self._traffic.page(abandoned):
            if abandoned.is_set():
                return PageOutcome(error=str(Abandoned()))
            try:
                outcome = read_page(source, index, question.read, self.engines)
            except (ApplicationError, EngineUnavailable):
                raise
            except Exception as error:
                # A fault in reading one page: the request fails and says so, the server goes on.
                log.exception("page_crashed")
                outcome = PageOutcome(error=f"{type(error).__name__}: {error}")
        (self.metrics.pages_failed if outcome.error else self.metrics.pages).inc()
        return outcome

    def _told(self, pages: int, seconds: float) -> None:
        self.metrics.batch(pages, seconds)
        self._page_seconds += 0.1 * (seconds / pages - self._page_seconds)


def _warm_up_page() -> Image.Image:
    page = Image.new("RGB", (960, 320), "white")
    pen = ImageDraw.Draw(page)
    for row in range(3):
        words = "Ready to read, 0123456789 " * (row + 1)
        pen.text((24, 40 + 90 * row), words, fill="black", font=ImageFont.load_default(28))
    return page
