"""Pages of several requests, read together.

An engine gets a few lanes, each a thread. A free lane takes its share of the pages that wait and
gives them to the engine in one call where the engine batches, one after another where it doesn't.
A page that comes alone is read at once: a lane waits for more only while more are on their way.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops.engines import EngineCache, EngineSpec
from mlops.exceptions import JobFailed

if TYPE_CHECKING:
    import numpy as np

    from ocr.engines.base import OcrEngine, Reading


class Abandoned(JobFailed):
    """Nobody waits for the page any more."""

    def __init__(self) -> None:
        super().__init__("The client has gone.", code="abandoned")


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """`count` lanes of `threads` threads each; `max_batch` pages to a call.

    `max_wait`: seconds for which a lane waits for pages that are on their way.
    """

    count: int
    threads: int = 1
    max_batch: int = 4
    max_wait: float = 0.005


class Traffic:
    """Counts the pages that are known of and have not come to a lane yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming = 0

    @property
    def coming(self) -> int:
        return self._coming

    def expect(self, pages: int) -> None:
        """So many are on their way (negative: won't come)."""
        with self._lock:
            self._coming += pages

    @contextmanager
    def page(self, abandoned: threading.Event) -> Iterator[None]:
        """Around the reading of one expected page, in the thread that reads it."""
        passage = _Passage(self, abandoned)
        token = _passage.set(passage)
        try:
            yield
        finally:
            _passage.reset(token)
            passage.arrive()


@dataclass(slots=True)
class _Passage:
    traffic: Traffic
    abandoned: threading.Event
    arrived: bool = False

    def arrive(self) -> None:
        if not self.arrived:
            self.arrived = True
            self.traffic.expect(-1)


_passage: ContextVar[_Passage] = ContextVar("passage")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    image: np.ndarray
    languages: tuple[str, ...]
    abandoned: threading.Event
    done: Future[Reading] = field(default_factory=Future)


class Lanes:
    """One engine for many threads; everything but reading is asked of its first copy.

    Lane n reads with copy n, or they share what copies there are. `told(pages, seconds)` is called
    after each call of the engine.
    """

    def __init__(
        self,
        copies: Sequence[OcrEngine],
        options: LaneOptions,
        *,
        traffic: Traffic,
        told: Callable[[int, float], None],
    ) -> None:
        self.copies = tuple(copies)
        self.batches: bool = self.copies[0].batches
        self._options = options
        self._traffic = traffic
        self._told = told
        self._waiting: deque[_Waiting] = deque()
        self._idle = 0
        self._changed = threading.Condition()
        for number in range(options.count):
            engine = self.copies[number % len(self.copies)]
            # Daemons: a network that hangs must not keep the process from ending.
            threading.Thread(
                target=self._run, args=(engine,), name=f"lane-{engine.name}-{number}", daemon=True
            ).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.copies[0], name)

    @property
    def depth(self) -> int:
        """Pages that wait for a lane."""
        return len(self._waiting)

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """Waits for its turn. Raises what the engine raises, or Abandoned."""
        passage = _passage.get()
        page = _Waiting(image, languages, passage.abandoned)
        with self._changed:
            self._waiting.append(page)
            passage.arrive()
            self._changed.notify_all()
        return page.done.result()

    def _run(self, engine: OcrEngine) -> None:
        while True:
            batch = []
            for page in self._take():
                if page.abandoned.is_set():
                    page.done.set_exception(Abandoned())
                else:
                    batch.append(page)
            if batch:
                self._read(engine, batch)

    def _take(self) -> list[_Waiting]:
        with self._changed:
            self._idle += 1
            deadline = None
            while True:
                if not self._waiting:
                    deadline = None
                    self._changed.wait()
                    continue
                deadline = deadline or time.monotonic() + self._options.max_wait
                left = deadline - time.monotonic()
                enough = not self.batches or len(self._waiting) >= self._most() * self._idle
                if enough or left <= 0 or not self._traffic.coming:
                    break
                self._changed.wait(left)
            # What the other free lanes can take at the same time is left to them.
            share = min(self._most(), math.ceil(len(self._waiting) / self._idle))
            self._idle -= 1
            return self._alike(share)

    def _most(self) -> int:
        return self._options.max_batch if self.batches else 1

    def _alike(self, most: int) -> list[_Waiting]:
        """The page that waits longest, and the next ones that ask for the same languages."""
        first = self._waiting.popleft()
        batch = [first]
        for page in list(self._waiting):
            if len(batch) == most:
                break
            if page.languages == first.languages:
                self._waiting.remove(page)
                batch.append(page)
        return batch

    def _read(self, engine: OcrEngine, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        languages = batch[0].languages
        try:
            if self.batches:
                readings = engine.read_many([page.image for page in batch], languages=languages)
            else:
                readings = [engine.read(page.image, languages=languages) for page in batch]
        except Exception as error:
            # Whatever it is, it belongs to whoever waits for the page; the lane goes on.
            if len(batch) == 1:
                batch[0].done.set_exception(error)
                return
            # One page is at fault: the others of its batch must not suffer for it.
            for page in batch:
                self._read(engine, [page])
            return
        self._told(len(batch), time.perf_counter() - started)
        for page, reading in zip(batch, readings, strict=True):
            page.done.set_result(reading)


class LaneEngines(EngineCache):
    """Engines as `ocr.reader` asks for them, each behind lanes.

    The `main` one has a copy for each lane where it runs on the CPU, loaded before the first
    request; of the others, which few requests ask for, all lanes share one.
    """

    def __init__(
        self,
        specs: dict[str, EngineSpec],
        options: LaneOptions,
        *,
        main: str,
        traffic: Traffic,
        told: Callable[[int, float], None],
    ) -> None:
        super().__init__(specs)
        self._options = options
        self._main = main
        self._traffic = traffic
        self._told = told

    def _load(self, spec: EngineSpec) -> Lanes:
        """Raises EngineUnavailable if its library or model is missing."""
        spec = replace(spec, options={"threads": self._options.threads, **spec.options})
        copies = [super()._load(spec)]
        # On an accelerator the lanes share one: its memory is dear, and it works through one
        # call after the other anyway.
        on_cpu = copies[0].device.startswith("cpu")
        if spec.alias == self._main and self._options.count > 1 and on_cpu:
            more = self._options.count - 1
            with ThreadPoolExecutor(more) as loaders:
                copies += loaders.map(lambda _: spec.build(), range(more))
        return Lanes(copies, self._options, traffic=self._traffic, told=self._told)

    @property
    def depth(self) -> int:
        """Pages that wait for a lane of any engine."""
        return sum(lanes.depth for lanes in list(self._engines.values()))
