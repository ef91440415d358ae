"""Runs one job under its lease; the one place that catches everything."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

from mlops import bell, endings
from mlops.exceptions import (
    ApplicationError,
    JobCancelled,
    JobFailed,
    JobHeld,
    JobInterrupted,
    JobWaits,
    LeaseLost,
)
from mlops.leases import keeper
from mlops.models import Job

log = structlog.get_logger(__name__)

J = TypeVar("J", bound=Job)

# Set when this process has been told to stop: jobs stop after their current unit of work.
stopping = threading.Event()

# What may well work on the next attempt: the database, the storage or the network was away.
TRANSIENT = (OperationalError, InterfaceError, ConnectionError, TimeoutError, JobInterrupted)

# No more often than this is anybody told that a job has got further.
PROGRESS_SECONDS = 0.2


class WorkerStopping(Exception):
    """Raised between units of work when this process has been told to stop."""


class JobContext:
    """What a runner knows of the job that it runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._told = time.monotonic()

    def check(self) -> None:
        """Called between two units of work; raises what ends the run there."""
        if stopping.is_set():
            raise WorkerStopping
        held = Job.objects.filter(
            pk=self.job.pk, status=Job.Status.RUNNING, attempts=self.job.attempts
        )
        asked = held.values_list("cancel_requested", "held").first()
        if asked is None or keeper.lost(self.job):
            raise LeaseLost
        cancel_requested, paused = asked
        if cancel_requested:
            raise JobCancelled
        if paused:
            raise JobHeld

    def progress(self, done: int, total: int) -> None:
        """The last step is written with the job's end, a moment later."""
        if done >= total:
            self.job.progress_done, self.job.progress_total = done, total
        elif (done, total) != (self.job.progress_done, self.job.progress_total):
            self.write_progress(done, total)
        if time.monotonic() - self._told >= PROGRESS_SECONDS:
            self._told = time.monotonic()
            bell.ring(self.job.pk)
            endings.parent_refresh_now_and_then(self.job.parent_id)

    def write_progress(self, done: int, total: int) -> None:
        if not self.job.set_progress(done, total):
            raise LeaseLost


def worker_name() -> str:
    """Names this process in the rows it holds."""
    return f"{socket.gethostname()}:{os.getpid()}"


def execute(
    model: type[J],
    pk: uuid.UUID | str,
    run: Callable[[J, JobContext], None],
    *,
    related: Iterable[str] = (),
) -> str:
    """Leases the job, runs it and writes how it ended; returns its status then.

    `related`: rows that the runner will want beside the job's own, fetched with it.
    "skipped": somebody else has it, or it has ended or been deleted. Only a database that is away
    makes this raise; the lease then runs out and the reaper queues the job again.
    """
    jobs = model.objects.select_related(*related) if related else model.objects
    job = jobs.lease(pk, worker=worker_name())
    if job is None:
        return "skipped"
    with structlog.contextvars.bound_contextvars(job_id=str(job.pk), request_id=job.request_id):
        with keeper.hold(job):
            status = _run(job, run)
        if job.finished:
            endings.announce(job)
        log.info("job_ended", kind=job.kind, status=status, attempt=job.attempts, error=job.error)
    return status


def _run(job: J, run: Callable[[J, JobContext], None]) -> str:
    context = JobContext(job)
    try:
        # The row in hand is as young as another look at it would be.
        if stopping.is_set():
            raise WorkerStopping
        if job.cancel_requested:
            raise JobCancelled
        run(job, context)
    except LeaseLost:
        return "lease lost"
    except (WorkerStopping, JobHeld):
        job.release(counted=False)
        return Job.Status.QUEUED
    except JobWaits:
        return _wait(job)
    except JobCancelled:
        if endings.children_cancel(job):
            return _wait(job)
        job.finish(Job.Status.CANCELLED, track=job.TRACKED)
    except (JobFailed, ApplicationError) as error:
        job.finish(Job.Status.FAILED, code=error.code, error=error.message, track=job.TRACKED)
    except TRANSIENT as error:
        if job.attempts < job.max_attempts:
            log.warning("job_released", error=str(error), attempt=job.attempts)
            job.release(counted=True)
            return Job.Status.QUEUED
        _crash(job, error)
    except Exception as error:
        _crash(job, error)
    else:
        job.finish(Job.Status.SUCCEEDED, track=job.TRACKED)
    return job.status if job.finished else "lease lost"


def _wait(job: J) -> str:
    """Gives the job out of hand until the last of its children has ended."""
    if not job.wait_for_children():
        return "lease lost"
    endings.parent_refresh(job.pk)
    return "waiting"


def _crash(job: Job, error: Exception) -> None:
    log.exception("job_crashed")
    job.finish(
        Job.Status.FAILED,
        code="internal_error",
        error=f"{type(error).__name__}: {error}. The traceback is kept on the job.",
        traceback="".join(traceback.format_exception(error)),
        track=job.TRACKED,
    )
