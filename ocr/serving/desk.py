"""Takes documents in, has their pages read, and keeps count of both."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog
from PIL import Image, ImageDraw, ImageFont

from mlops.engines import EngineSpec
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr.languages import AUTO
from ocr.pages import Limits, PageImage, PageSource, open_pages
from ocr.reader import PageOutcome, read_page
from ocr.serving.answers import Defaults, Question
from ocr.serving.lanes import Abandoned, LaneEngines, LaneOptions, Traffic
from ocr.serving.metrics import Metrics

log = structlog.get_logger(__name__)


class Busy(ApplicationError):
    """Nothing is wrong with the request; `retry_after` seconds later there may be room."""

    def __init__(self, message: str, *, code: str, retry_after: int) -> None:
        super().__init__(message, code=code, status=503)
        self.retry_after = retry_after


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
        self.metrics.limit.set(options.queue)
        self.loaded = False
        self.held = 0
        # Requests that were dropped because the server had to end.
        self.cut_off = 0
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
        self.loaded = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request. Raises Busy."""
        if not self.loaded:
            raise Busy("The model is being loaded.", code="loading", retry_after=1)
        if self.held >= self.options.queue:
            wait = self.held * self._page_seconds / self.options.lanes.count
            raise Busy(
                f"{self.held} requests are being worked at, and no more are held.",
                code="queue_full",
                retry_after=min(max(math.ceil(wait), 1), 30),
            )
        self.held += 1
        self.metrics.in_flight.set(self.held)
        try:
            yield
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        finally:
            self.held -= 1
            self.metrics.in_flight.set(self.held)

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
