"""The requests under way in this worker: one thread sees which of them are to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections
from redis.exceptions import RedisError

from llm.relay.cancels import Cancels
from mlops import bell
from mlops.jobs import stopping
from mlops.leases import keeper
from mlops.models import Job

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class OpenRequest:
    """A request in the engine. `stopped` says why it was ended early; empty: it wasn't."""

    job: Job
    stop: Callable[[], None]
    stopped: str = field(default="", init=False)

    def end(self, why: str) -> None:
        if not self.stopped:
            self.stopped = why
            self.stop()


CANCELLED, LOST, STOPPING = "cancelled", "lost", "stopping"


class OpenRequests:
    """Told at once by Redis where there is one; else a look at the rows, for all at once."""

    def __init__(self) -> None:
        self._open: dict[str, OpenRequest] = {}
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._thread: threading.Thread | None = None
        self._cancels = Cancels()
        self._stop_since: float | None = None

    @contextmanager
    def hold(self, job: Job, stop: Callable[[], None]) -> Iterator[OpenRequest]:
        """While it runs, `stop` is called (in another thread) once it is not to go on."""
        request = OpenRequest(job, stop)
        with self._lock:
            self._open[str(job.pk)] = request
            self._some.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cancels", daemon=True)
                self._thread.start()
        try:
            yield request
        finally:
            with self._lock:
                del self._open[str(job.pk)]
                if not self._open:
                    self._some.clear()

    def _run(self) -> None:
        looked = 0.0
        while True:
            self._some.wait()
            if self._wait() is not None:
                continue
            now = time.monotonic()
            if now - looked >= self._cancels.look_seconds:
                looked = now
                self._look()
            self._stop_all_in_time(now)

    def _wait(self) -> str | None:
        """The request that was just ended because Redis told; None after a pause without one."""
        pause = 0.25
        if not bell.rings():
            time.sleep(pause)
            return None
        try:
            told = self._cancels.wait(pause)
        except (RedisError, OSError) as error:
            log.debug("cancels_not_heard", error=str(error))
            self._cancels.close()
            time.sleep(pause)
            return None
        request = self._open.get(told or "")
        if request is not None:
            request.end(CANCELLED)
        return told

    def _look(self) -> None:
        with self._lock:
            requests = dict(self._open)
        if not requests:
            return
        try:
            close_old_connections()
            rows = Job.objects.filter(pk__in=requests, status=Job.Status.RUNNING).order_by()
            held = {
                (str(pk), attempts): cancel
                for pk, attempts, cancel in rows.values_list("pk", "attempts", "cancel_requested")
            }
        except DatabaseError as error:
            log.warning("requests_not_looked_at", error=str(error))
            return
        finally:
            close_old_connections()
        for pk, request in requests.items():
            cancel = held.get((pk, request.job.attempts))
            if cancel is None or keeper.lost(request.job):
                request.end(LOST)
            elif cancel:
                request.end(CANCELLED)

    def _stop_all_in_time(self, now: float) -> None:
        """A worker that was told to stop gives its requests a while to come to their ends."""
        if not stopping.is_set():
            return
        self._stop_since = self._stop_since or now
        if now - self._stop_since < settings.LLM_STOP_SECONDS:
            return
        with self._lock:
            requests = list(self._open.values())
        for request in requests:
            request.end(STOPPING)


open_requests = OpenRequests()
