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

from django.db import transaction

from mlops import engines
from mlops.exceptions import ApplicationError, EngineUnavailable, JobCancelled, JobFailed, LeaseLost
from mlops.jobs import JobContext, worker_name
from mlops.leases import keeper
from mlops.models import Job
from ocr import batch_child, services
from ocr.models import Document, OcrJob
from ocr.outputs import Target, write_outputs
from ocr.reader import PageOutcome
from ocr.runner import limits, read_request, store, summarise

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


@dataclass(slots=True)
class FileRun:
    """One file on its way through. `left`: page numbers (from 1) that nobody has read yet."""

    target: Target
    job: OcrJob | None = None
    path: Path | None = None
    pages: dict[int, int] = field(default_factory=dict)
    left: deque[int] = field(default_factory=deque)
    under_way: int = 0
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
        self._tasks: dict[Future[PageOutcome], tuple[FileRun, int]] = {}
        self._suspects: deque[tuple[FileRun, int]] = deque()
        self._pool = self._new_pool()

    def events(self) -> Iterator[PageDone | FileDone]:
        """Raises EngineUnavailable, which concerns every file; jobs under way end cancelled."""
        try:
            while self._targets or self._open:
                yield from self._fill()
                yield from self._collect()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            for run in self._open:
                self._finish(run, Job.Status.CANCELLED, "The batch was stopped.")

    # -- pages out to the children ----------------------------------------------------------

    def _fill(self) -> Iterator[FileDone]:
        if self._suspects or (self._tasks and self._is_isolated()):
            # After a crash the pages that were under way go one by one, to find the culprit.
            if not self._tasks:
                self._submit(*self._suspects.popleft())
            return
        window = self._options.workers * 2
        while len(self._tasks) < window:
            run = next((run for run in self._open if run.left), None)
            if run is not None:
                self._submit(run, run.left.popleft())
            elif self._targets:
                run = self._start(self._targets.popleft())
                if run.ended:
                    yield FileDone(run)
            else:
                return

    def _is_isolated(self) -> bool:
        return len(self._tasks) == 1 and self._isolated

    _isolated = False

    def _submit(self, run: FileRun, number: int) -> None:
        assert run.job is not None and run.path is not None
        task = self._pool.submit(
            batch_child.read, str(run.path), number - 1, run.job.dpi, read_request(run.job)
        )
        self._tasks[task] = (run, number)
        run.under_way += 1

    def _new_pool(self) -> ProcessPoolExecutor:
        specs = engines.specs("ocr")
        # Spawned, not forked: OpenMP and OpenVINO do not survive a fork.
        return ProcessPoolExecutor(
            self._options.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=batch_child.initialise,
            initargs=(specs, self._options.threads, limits()),
        )

    # -- results back -----------------------------------------------------------------------

    def _collect(self) -> Iterator[PageDone | FileDone]:
        if self._tasks:
            done, _pending = wait(self._tasks, return_when=FIRST_COMPLETED)
            for task in done:
                if task not in self._tasks:
                    continue
                try:
                    outcome = task.result()
                except BrokenProcessPool:
                    yield from self._crashed()
                    break
                except EngineUnavailable:
                    raise
                run, number = self._tasks.pop(task)
                yield from self._arrived(run, number, outcome)
        for run in [run for run in self._open if not run.left and not run.under_way]:
            self._finish(run, Job.Status.SUCCEEDED)
            yield FileDone(run)

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
        under_way = list(self._tasks.values())
        self._tasks.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._new_pool()
        if len(under_way) == 1:
            run, number = under_way[0]
            yield from self._arrived(run, number, PageOutcome(error=CRASHED))
            self._isolated = bool(self._suspects)
            return
        for run, number in under_way:
            run.under_way -= 1
            self._suspects.append((run, number))
        self._isolated = True

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
        run.pages = dict(document.pages.values_list("number", "pk"))
        read = set(job.results.values_list("page__number", flat=True))
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
        job = services.ocr_job_create(document=document, owner=None, **self._job_options())
        return OcrJob.objects.lease(job.pk, worker=worker_name())

    def _job_options(self) -> dict[str, object]:
        return {
            "engine": self._options.engine,
            "language": self._options.language,
            "min_confidence": self._options.min_confidence,
            "dpi": self._options.dpi,
        }

    def _finish(self, run: FileRun, status: str, error: str = "") -> None:
        assert run.job is not None
        job, code = run.job, "stopped" if error else ""
        if run.error and not error:
            status, error, code = Job.Status.CANCELLED, run.error, "cancelled"
        if status == Job.Status.SUCCEEDED:
            try:
                summarise(job)
            except JobFailed as failure:
                status, error, code = Job.Status.FAILED, failure.message, failure.code
        run.hold.close()
        if job.status == Job.Status.RUNNING:
            job.finish(status, code=code, error=error, track=True)
        run.error, run.ended = error, True
        self._open.remove(run) if run in self._open else None
        if status != Job.Status.CANCELLED:
            job.refresh_from_db()
            write_outputs(job, run.target, self._options.formats)
