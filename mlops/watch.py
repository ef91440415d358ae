"""Follows job rows for requests that wait: one look at the database for all of a process's.

Looks when the bell rings for a job (`mlops.bell`) and, since rings may be lost, now and then.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import structlog
from django.db import DatabaseError, close_old_connections
from redis.exceptions import RedisError

from mlops import bell
from mlops.models import Job

log = structlog.get_logger(__name__)

# Between two looks without a ring: where a bell is heard; without one, in the first seconds of
# waiting (a page takes tenths of a second), and later.
HEARD_SECONDS = 0.5
YOUNG_SECONDS, YOUNG_PAUSE, OLD_PAUSE = 3.0, 0.02, 0.25
BELL_AGAIN_SECONDS = 2.0
# For as long the bell is still listened to after the last one who waited: subscribing takes time.
LINGER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class JobState:
    """What a job's row says of how far it is."""

    status: str
    done: int
    total: int
    cancel_requested: bool
    error_code: str
    error: str

    @property
    def finished(self) -> bool:
        return self.status not in (Job.Status.QUEUED, Job.Status.RUNNING)


class JobWatch:
    """One event loop's watcher; its tasks live while somebody watches, and a while longer."""

    def __init__(self) -> None:
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = defaultdict(set)
        self._states: dict[uuid.UUID, JobState | None] = {}
        self._rung: set[uuid.UUID] = set()
        self._look = asyncio.Event()
        self._heard = False
        self._young_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        # A thread of its own: those of requests end with them.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-watch")

    async def states(self, pk: uuid.UUID) -> AsyncIterator[JobState | None]:
        """The job's state now and at each change; the last one is final, or None if it is gone."""
        changed = asyncio.Event()
        self._waiting[pk].add(changed)
        self._young_until = asyncio.get_running_loop().time() + YOUNG_SECONDS
        self._rung.add(pk)
        self._look.set()
        self._start()
        told: list[JobState | None] = []
        try:
            while True:
                await changed.wait()
                changed.clear()
                state = self._states[pk]
                if told != [state]:
                    told = [state]
                    yield state
                if state is None or state.finished:
                    return
        finally:
            self._waiting[pk].discard(changed)
            if not self._waiting[pk]:
                del self._waiting[pk]
                self._states.pop(pk, None)

    def _start(self) -> None:
        if not self._tasks or self._tasks[0].done():
            self._tasks = [asyncio.create_task(self._run())]
            if bell.rings():
                self._tasks.append(asyncio.create_task(self._listen()))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                all_due, idle = False, not self._waiting
                try:
                    async with asyncio.timeout(self._pause(loop.time())):
                        await self._look.wait()
                except TimeoutError:
                    if idle and not self._waiting:
                        return
                    all_due = True
                self._look.clear()
                pks = list(self._waiting) if all_due else list(self._rung & self._waiting.keys())
                self._rung.clear()
                if pks:
                    await self._read(pks)
        finally:
            for task in self._tasks[1:]:
                task.cancel()

    def _pause(self, now: float) -> float:
        if not self._waiting:
            return LINGER_SECONDS
        if self._heard:
            return HEARD_SECONDS
        return YOUNG_PAUSE if now < self._young_until else OLD_PAUSE

    async def _read(self, pks: Collection[uuid.UUID]) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, job_states, pks)
        except DatabaseError as error:
            log.warning("jobs_not_watched", error=str(error))
            return
        for pk in pks:
            state = found.get(pk)
            if pk in self._waiting and (pk not in self._states or self._states[pk] != state):
                self._states[pk] = state
            for event in self._waiting.get(pk, ()):
                event.set()

    async def _listen(self) -> None:
        while True:
            try:
                async for pk in bell.heard():
                    if pk is None:
                        # What was rung before may have been missed.
                        self._heard = True
                        self._rung.update(self._waiting)
                    elif pk in self._waiting:
                        self._rung.add(pk)
                    self._look.set()
            except (RedisError, OSError) as error:
                log.debug("bell_not_heard", error=str(error))
            finally:
                self._heard = False
            await asyncio.sleep(BELL_AGAIN_SECONDS)


def job_states(pks: Collection[uuid.UUID]) -> dict[uuid.UUID, JobState]:
    close_old_connections()
    try:
        rows = Job.objects.filter(pk__in=pks).order_by()
        names = ("status", "progress_done", "progress_total", "cancel_requested")
        return {
            pk: JobState(*rest)
            for pk, *rest in rows.values_list("pk", *names, "error_code", "error")
        }
    finally:
        close_old_connections()


@lru_cache(maxsize=1)
def _watch(loop: asyncio.AbstractEventLoop) -> JobWatch:
    return JobWatch()


def watch() -> JobWatch:
    """The running loop's watcher."""
    return _watch(asyncio.get_running_loop())
