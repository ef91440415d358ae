"""A job in the process of a command: no web, no broker; Ctrl-C ends it as a cancel does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import DatabaseError, close_old_connections, connection
from django.db.models.functions import Now

from mlops import flush
from mlops.exceptions import NotAllowed
from mlops.models import Job
from mlops.services import job_cancel

J = TypeVar("J", bound=Job)

# How often the job's row is looked at.
LOOK_SECONDS = 0.3


def run_here(job: J, execute: Callable[[], str], *, show: Callable[[J], None]) -> J:
    """Runs a job that was made held back; the row as it is when it has ended.

    `execute` runs it once, as a task would. `show` is called with the row now and then, in a thread
    of its own. If a worker elsewhere was quicker, it is followed until it ends there.
    """
    Job.objects.filter(pk=job.pk).update(held=False, sent_at=Now())
    model, over, asked = type(job), threading.Event(), threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(model, job.pk, over, asked, show), name="watch", daemon=True
    )
    watcher.start()
    try:
        with _interrupts(asked):
            while not model.objects.get(pk=job.pk).finished:
                if execute() in ("skipped", "lease lost"):
                    over.wait(LOOK_SECONDS)
    finally:
        over.set()
        watcher.join()
    flush.jobs_track(only=[job.pk])
    return model.objects.get(pk=job.pk)


def follow(job: J, show: Callable[[J], None]) -> J:
    """Waits for a job that is a worker's; Ctrl-C stops it there."""
    model, over, asked = type(job), threading.Event(), threading.Event()
    with _interrupts(asked):
        while not job.finished:
            over.wait(LOOK_SECONDS)
            job = model.objects.get(pk=job.pk)
            if asked.is_set() and not job.cancel_requested and not job.finished:
                job_cancel(job=job)
            show(job)
    return job


def _watch(
    model: type[J],
    pk: object,
    over: threading.Event,
    asked: threading.Event,
    show: Callable[[J], None],
) -> None:
    cancelled = False
    try:
        while not over.wait(LOOK_SECONDS):
            close_old_connections()
            try:
                job = model.objects.get(pk=pk)
                if asked.is_set() and not cancelled:
                    cancelled = True
                    job_cancel(job=job)
            except (DatabaseError, NotAllowed):
                continue
            show(job)
    finally:
        connection.close()


@contextmanager
def _interrupts(asked: threading.Event) -> Iterator[None]:
    """Ctrl-C asks the job to stop; a second one ends the command at once."""

    def ask(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
