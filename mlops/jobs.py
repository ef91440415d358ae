"""Runs one job under its lease; the one place that catches everything."""

from __future__ import annotations

import os
import socket
import threading
import traceback
import uuid
from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

from mlops.exceptions import ApplicationError, JobCancelled, JobFailed, LeaseLost
from mlops.leases import keeper
from mlops.models import Job

log = structlog.get_logger(__name__)

J = TypeVar("J", bound=Job)

# Set when this process has been told to stop: jobs stop after their current unit of work.
stopping = threading.Event()

# What may well work on the next attempt: the database, the storage or the network was away.
TRANSIENT = (OperationalError, InterfaceError, ConnectionError, TimeoutError)


class WorkerStopping(Exception):
    """Raised between units of work when this process has been told to stop."""


class JobContext:
    """What a runner knows of the job that it runs."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def check(self) -> None:
        """Called between two units of work; raises what ends the run there."""
        if stopping.is_set():
            raise WorkerStopping
        held = Job.objects.filter(
            pk=self.job.pk, status=Job.Status.RUNNING, attempts=self.job.attempts
        )
        cancel_requested = held.values_list("cancel_requested", flat=True).first()
        if cancel_requested is None or keeper.lost(self.job):
            raise LeaseLost
        if cancel_requested:
            raise JobCancelled

    def progress(self, done: int, total: int) -> None:
        if not self.job.set_progress(done, total):
            raise LeaseLost


def worker_name() -> str:
    """Names this process in the rows it holds."""
    return f"{socket.gethostname()}:{os.getpid()}"


def execute(model: type[J], pk: uuid.UUID | str, run: Callable[[J, JobContext], None]) -> str:
    """Leases the job, runs it and writes how it ended; returns its status then.

    "skipped": somebody else has it, or it has ended or been deleted. Only a database that is away
    makes this raise; the lease then runs out and the reaper queues the job again.
    """
    job = model.objects.lease(pk, worker=worker_name())
    if job is None:
        return "skipped"
    with structlog.contextvars.bound_contextvars(job_id=str(job.pk), request_id=job.request_id):
        with keeper.hold(job):
            status = _run(job, run)
        log.info("job_ended", kind=job.kind, status=status, attempt=job.attempts, error=job.error)
    return status


def _run(job: J, run: Callable[[J, JobContext], None]) -> str:
    context = JobContext(job)
    try:
        context.check()
        run(job, context)
    except LeaseLost:
        return "lease lost"
    except WorkerStopping:
        job.release(counted=False)
        return Job.Status.QUEUED
    except JobCancelled:
        job.finish(Job.Status.CANCELLED, track=True)
    except (JobFailed, ApplicationError) as error:
        job.finish(Job.Status.FAILED, code=error.code, error=error.message, track=True)
    except TRANSIENT as error:
        if job.attempts < job.max_attempts:
            log.warning("job_released", error=str(error), attempt=job.attempts)
            job.release(counted=True)
            return Job.Status.QUEUED
        _crash(job, error)
    except Exception as error:
        _crash(job, error)
    else:
        job.finish(Job.Status.SUCCEEDED, track=True)
    return job.status if job.finished else "lease lost"


def _crash(job: Job, error: Exception) -> None:
    log.exception("job_crashed")
    job.finish(
        Job.Status.FAILED,
        code="internal_error",
        error=f"{type(error).__name__}: {error}. The traceback is kept on the job.",
        traceback="".join(traceback.format_exception(error)),
        track=True,
    )
