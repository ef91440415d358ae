"""Many files at once, in this process and its children: no web, no broker, no login.

The parent keeps the rows and writes the outputs; each child holds engines of its own and reads one
page at a time. A bounded number of pages is under way, so memory does not grow with the input.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from django.db import transaction

from mlops import engines
from mlops.exceptions import ApplicationError, EngineUnavailable, JobCancelled, JobFailed, LeaseLost
from mlops.jobs import JobContext, worker_name
from mlops.leases import keeper
from mlops.models import Job
from ocr import batch_child, reuse, services
from ocr.models import Document, OcrJob
from ocr.outputs import Target, write_outputs
from ocr.reader import PageOutcome
from ocr.runner import limits, read_request, store, summarise, wanted_pages

log = structlog.get_logger(__name__)

# Pages read together in a child: their lines share the recogniser's batches.
TOGETHER = 4
CRASHED = "Reading this page made its process crash; see the log for a memory or library fault."


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What to do with every file; see `manage.py ocr_batch --help`."""

    engine: str
    language: str
    min_confidence: float
    dpi: int
    formats: tuple[str, ...]
    workers: int
    threads: int
    resume: bool
    track: bool = True
    page_range: str = ""
    text_layer: str = OcrJob.TextLayer.USE
    rotate: bool = True
    force: bool = False


@dataclass(slots=True, eq=False)
class FileRun:
    """One file on its way through.

    `left`: page numbers (from 1) that nobody has read yet; `suspected`: how many of its pages wait
    to be read alone, since one of them may have killed a process.
    """

    target: Target
    job: OcrJob | None = None
    path: Path | None = None
    pages: dict[int, int] = field(default_factory=dict)
    left: deque[int] = field(default_factory=deque)
    under_way: int = 0
    suspected: int = 0
    error: str = ""
    skipped: bool = False
    ended: bool = False
    hold: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, slots=True)
class PageDone:
    """Told of every page, for a progress bar."""

    run: FileRun


@dataclass(frozen=True, slots=True)
class FileDone:
    """Told of every file once its outputs are written, or it has failed (`run.error`)."""

    run: FileRun


class Batch:
    """Iterate over `events()`; what was read stands in rows and files as the events come."""

    def __init__(self, targets: list[Target], options: BatchOptions) -> None:
        self._targets = deque(targets)
        self._options = options
        self._open: list[FileRun] = []
        self._tasks: dict[Future[list[PageOutcome]], list[tuple[FileRun, int]]] = {}
        self._suspects: deque[tuple[FileRun, int]] = deque()
        self._pool = self._new_pool()

    def events(self) -> Iterator[PageDone | FileDone]:
        """Raises EngineUnavailable, which concerns every file; jobs under way end with it."""
        status, code, reason = Job.Status.CANCELLED, "stopped", "The batch was stopped."
        try:
            while self._targets or self._open:
                yield from self._fill()
                yield from self._collect()
        except EngineUnavailable as error:
            status, code, reason = Job.Status.FAILED, error.code, error.message
            raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            for run in list(self._open):
                self._end(run, status, code, reason)

    # -- pages out to the children ----------------------------------------------------------

    def _fill(self) -> Iterator[FileDone]:
        """Keeps the window of pages under way full, taking up the next file when it has room.

        After a crash the pages that were under way go one by one, to find the one at fault.
        """
        if self._suspects:
            if not self._tasks:
                run, number = self._suspects.popleft()
                run.suspected -= 1
                if not self._submit([(run, number)]):
                    run.left.remove(number)
                    run.suspected += 1
                    self._suspects.appendleft((run, number))
            return
        while len(self._tasks) < self._options.workers * 2:
            pages: list[tuple[FileRun, int]] = []
            for run, number in self._pages_left():
                if number is None:
                    yield FileDone(run)
                    continue
                pages.append((run, number))
                if len(pages) >= self._share():
                    break
            if not pages or not self._submit(pages):
                return

    def _pages_left(self) -> Iterator[tuple[FileRun, int | None]]:
        """Pages to be read next, taking up files as they are needed; None: the file has ended."""
        while True:
            run = next((run for run in self._open if run.left), None)
            if run is not None:
                yield run, run.left.popleft()
            elif self._targets:
                run = self._start(self._targets.popleft())
                if run.ended:
                    yield run, None
            else:
                return

    def _share(self) -> int:
        """How many pages go out together: fewer towards the end, so that all children end at once.

        A file not yet taken up counts as one page.
        """
        left = len(self._targets) + sum(len(run.left) for run in self._open)
        return min(TOGETHER, max(1, left // (4 * self._options.workers)))

    def _submit(self, pages: list[tuple[FileRun, int]]) -> bool:
        """False if the pool has broken meanwhile; the pages under way tell of it, too."""
        job = pages[0][0].job
        assert job is not None
        places = [(str(run.path), number - 1) for run, number in pages]
        try:
            task = self._pool.submit(batch_child.read, places, job.dpi, read_request(job))
        except BrokenProcessPool:
            for run, number in reversed(pages):
                run.left.appendleft(number)
            if not self._tasks:
                self._pool = self._new_pool()
            return False
        self._tasks[task] = pages
        for run, _number in pages:
            run.under_way += 1
        return True

    def _new_pool(self) -> ProcessPoolExecutor:
        asked = self._options.engine
        specs = {
            alias: spec.here() if alias == asked else spec
            for alias, spec in engines.specs("ocr").items()
            if alias == asked or not spec.only_asked
        }
        # Spawned, not forked: OpenMP and OpenVINO do not survive a fork.
        return ProcessPoolExecutor(
            self._options.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=batch_child.initialise,
            initargs=(specs, self._options.threads, limits()),
        )

    # -- results back -----------------------------------------------------------------------

    def _collect(self) -> Iterator[PageDone | FileDone]:
        """Raises EngineUnavailable."""
        if self._tasks:
            done, _pending = wait(self._tasks, return_when=FIRST_COMPLETED)
            try:
                for task in done:
                    outcomes = self._outcomes(task)
                    pages = self._tasks.pop(task)
                    if outcomes is None:
                        self._suspect(pages)
                        continue
                    for (run, number), outcome in zip(pages, outcomes, strict=True):
                        yield from self._arrived(run, number, outcome)
            except BrokenProcessPool:
                yield from self._crashed()
        for run in [run for run in self._open if not (run.left or run.under_way or run.suspected)]:
            self._finish(run)
            yield FileDone(run)

    def _outcomes(self, task: Future[list[PageOutcome]]) -> list[PageOutcome] | None:
        """None if one of several pages is at fault, and which isn't known."""
        try:
            return task.result()
        except (BrokenProcessPool, EngineUnavailable):
            raise
        except Exception as error:
            pages = self._tasks[task]
            if len(pages) > 1:
                return None
            # A fault in reading one page: the file fails and says so, the others go on.
            log.exception("page_crashed", file=str(pages[0][0].target.source))
            return [PageOutcome(error=f"{type(error).__name__}: {error}")]

    def _arrived(self, run: FileRun, number: int, outcome: PageOutcome) -> Iterator[PageDone]:
        assert run.job is not None
        run.under_way -= 1
        context = JobContext(run.job)
        try:
            context.check()
            store(run.job, run.pages[number], outcome)
            context.progress(run.job.progress_done + 1, len(run.pages))
        except (JobCancelled, LeaseLost) as error:
            run.left.clear()
            run.error = "cancelled" if isinstance(error, JobCancelled) else "taken over or deleted"
        yield PageDone(run)

    def _crashed(self) -> Iterator[PageDone]:
        """A child died: with one page under way that page is at fault, else each is a suspect."""
        under_way = [page for pages in self._tasks.values() for page in pages]
        self._tasks.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new_pool()
        if len(under_way) == 1:
            yield from self._arrived(*under_way[0], PageOutcome(error=CRASHED))
            return
        self._suspect(under_way)

    def _suspect(self, pages: list[tuple[FileRun, int]]) -> None:
        """One of these may be at fault: each will be read alone."""
        for run, number in pages:
            run.under_way -= 1
            run.suspected += 1
            self._suspects.append((run, number))

    # -- one file's rows --------------------------------------------------------------------

    def _start(self, target: Target) -> FileRun:
        run = FileRun(target)
        if self._options.resume and target.complete(self._options.formats):
            run.ended = run.skipped = True
            return run
        try:
            with target.source.open("rb") as file, transaction.atomic():
                document = services.document_reuse_or_create(
                    file=file, name=target.source.name, source=Document.Source.COMMAND
                )
                job = self._job(document)
        except (ApplicationError, OSError) as error:
            run.error, run.ended = str(error), True
            return run
        run.job, run.path = job, target.source
        run.pages = wanted_pages(job)
        read = set(job.results.values_list("page__number", flat=True))
        if job.status == Job.Status.RUNNING:
            unread = {number: pk for number, pk in run.pages.items() if number not in read}
            read |= reuse.take_over(job, unread, engines.cache("ocr"))
        run.left.extend(sorted(run.pages.keys() - read))
        job.set_progress(len(read), len(run.pages))
        if job.status == Job.Status.RUNNING:
            run.hold.enter_context(keeper.hold(job))
        self._open.append(run)
        return run

    def _job(self, document: Document) -> OcrJob:
        """A job of this process's own, leased; with `resume`, an earlier one taken up again."""
        options = self._options
        if options.resume:
            earlier = services.ocr_job_resume(
                document=document, worker=worker_name(), options=self._job_options()
            )
            if earlier is not None:
                return earlier
        job = services.ocr_job_create(
            document=document, owner=None, force=options.force, **self._job_options()
        )
        return OcrJob.objects.lease(job.pk, worker=worker_name())

    def _job_options(self) -> dict[str, object]:
        return {
            "engine": self._options.engine,
            "language": self._options.language,
            "min_confidence": self._options.min_confidence,
            "dpi": self._options.dpi,
            "page_range": self._options.page_range,
            "text_layer": self._options.text_layer,
            "rotate": self._options.rotate,
        }

    def _finish(self, run: FileRun) -> None:
        """All pages are in: totals, status, outputs."""
        assert run.job is not None
        if run.error:
            self._end(run, Job.Status.CANCELLED, "cancelled", run.error)
            return
        try:
            summarise(run.job)
        except JobFailed as failure:
            self._end(run, Job.Status.FAILED, failure.code, failure.message)
        else:
            self._end(run, Job.Status.SUCCEEDED)
        run.job.refresh_from_db()
        try:
            write_outputs(run.job, run.target, self._options.formats)
        except (OSError, JobFailed) as error:
            # What was read is in the rows: --resume writes it once there is room.
            run.error = f"The output could not be written: {error}"

    def _end(self, run: FileRun, status: str, code: str = "", error: str = "") -> None:
        assert run.job is not None
        run.hold.close()
        # One that an earlier run had finished stays as it is.
        if run.job.status == Job.Status.RUNNING:
            run.job.finish(status, code=code, error=error, track=self._options.track)
        run.error, run.ended = error, True
        self._open.remove(run)
