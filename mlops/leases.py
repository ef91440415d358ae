"""Keeps the leases of the jobs that run in this process alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

log = structlog.get_logger(__name__)


class Lease(Protocol):
    """A row that is somebody's for a while: a job, a page of one."""

    pk: Any

    def renew(self, seconds: float) -> bool:
        """False if it is no longer ours."""
        ...


class LeaseKeeper:
    """One thread a process that renews every held lease three times in a lease's length.

    A page may take longer than a lease, so renewing can't be left to the code that does the work.
    A database that can't be reached for a while loses nothing: the lease is still ours until
    somebody else takes the row.
    """

    def __init__(self) -> None:
        self._held: dict[object, Lease] = {}
        self._lost: set[object] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, job: Lease) -> Iterator[None]:
        with self._lock:
            self._held[job.pk] = job
            self._lost.discard(job.pk)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(job.pk, None)
                self._lost.discard(job.pk)
            self._wake.set()

    def lost(self, job: Lease) -> bool:
        return job.pk in self._lost

    def _run(self) -> None:
        due = time.monotonic() + settings.JOB_LEASE_SECONDS / 3
        while True:
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            with self._lock:
                jobs = list(self._held.values())
                if not jobs:
                    self._thread = None
                    break
            if time.monotonic() >= due:
                self._renew(jobs)
                due = time.monotonic() + settings.JOB_LEASE_SECONDS / 3
        connection.close()

    def _renew(self, jobs: list[Lease]) -> None:
        # Once for all: opening a connection takes longer than renewing a lease.
        close_old_connections()
        for job in jobs:
            try:
                if not job.renew(settings.JOB_LEASE_SECONDS):
                    with self._lock:
                        if job.pk in self._held:
                            self._lost.add(job.pk)
            except DatabaseError as error:
                log.warning("lease_not_renewed", job_id=str(job.pk), error=str(error))
                close_old_connections()


keeper = LeaseKeeper()
