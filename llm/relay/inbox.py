"""The web process's side: one task reads its reply stream and hands events to who waits.

Nobody is left waiting in silence: a request whose worker gives no sign of life, whose row has ended
some other way or whose events got lost on the way ends with Failed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Protocol

import structlog
from django.conf import settings
from django.db import DatabaseError
from redis.exceptions import RedisError

from llm.engines.base import Ended, Failed
from llm.relay.database import DatabaseReader
from llm.relay.redis import RedisReader
from llm.relay.wire import Item, Message, Vectors, unpack
from mlops import bell
from mlops.models import Job
from mlops.watch import JobState, job_states

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# A request that says nothing for so long has its row looked at.
DOUBTFUL_SECONDS = 2.5
AGAIN_SECONDS = 0.2
# For as long the stream is still read after the last one who waited.
LINGER_SECONDS = 30.0

LOST = "The worker that was answering this request is gone. Send the request again."


class Reader(Protocol):
    async def read(self) -> list[str] | list[bytes]:
        """What has come since, in order; waits a moment at most. Raises what its store raises."""
        ...

    async def close(self) -> None: ...


class Mailbox:
    """What one request has said; read by one coroutine. Closed by `Inbox.close`."""

    # One of each of hundreds of open streams.
    __slots__ = (
        *("request", "watched", "streamed", "begun", "ended", "heard_at", "queued_at"),
        *("_attempt", "_number", "_messages", "_waiter", "_ended_at"),
    )

    def __init__(self, request: str, *, now: float) -> None:
        self.request = request
        self.watched = self.streamed = self.begun = self.ended = False
        self.heard_at = self.queued_at = now
        self._attempt = self._number = 0
        self._messages: list[Message] = []
        self._waiter: asyncio.Future[None] | None = None
        # When the row was first seen to have ended.
        self._ended_at: float | None = None

    def watch(self, *, streamed: bool) -> None:
        """From now on the request has a row, which is looked at when nothing is heard."""
        self.watched, self.streamed = True, streamed
        self.heard_at = self.queued_at = asyncio.get_running_loop().time()

    async def take(self) -> list[Message]:
        """What has come since, waiting for it if that is nothing."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._messages = self._messages, []
        return taken

    def put(self, item: Item, now: float) -> None:
        self.begun, self.heard_at, self._ended_at = True, now, None
        if item.attempt < self._attempt:
            return
        if item.attempt > self._attempt:
            self._attempt, self._number = item.attempt, 0
        if item.number > self._number:
            self.fail(LOST, code="worker_lost", status=502)
            return
        news = item.messages[self._number - item.number :]
        self._number += len(news)
        for message in news:
            self._add(message)

    def fail(self, message: str, *, code: str, status: int) -> None:
        self._add(Failed(message, code, None, status))

    def look(self, state: JobState | None, now: float) -> None:
        """Compares with what the row says, for a request that has been silent for a while."""
        if state is not None and state.status == Job.Status.QUEUED:
            if self.begun:
                # A lost worker's request waits for another.
                self.begun, self.queued_at = False, now
            if now - self.queued_at > settings.LLM_QUEUE_SECONDS:
                text = "No worker was free to answer. Try again in a moment."
                self.fail(text, code="no_worker_free", status=503)
        elif state is not None and not state.finished and not self.begun:
            # It has waited in the queue; silence counts from here.
            self.begun, self.heard_at = True, now
        elif state is not None and not state.finished:
            silent = now - self.heard_at > settings.LLM_SILENT_SECONDS
            if silent and self.streamed:
                self.fail(LOST, code="worker_lost", status=502)
        elif self._ended_at is None:
            self._ended_at = now
        elif state is None:
            self.fail("The request was deleted.", code="deleted", status=500)
        elif state.status == Job.Status.CANCELLED:
            self.fail("The request was cancelled.", code="cancelled", status=500)
        elif now - self._ended_at > settings.LLM_SILENT_SECONDS:
            # Its last events were on the way for long enough.
            text = state.error or LOST
            self.fail(text, code=state.error_code or "worker_lost", status=502)

    def _add(self, message: Message) -> None:
        if self.ended:
            return
        self.ended = isinstance(message, Ended | Failed | Vectors)
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Inbox:
    """One event loop's; its tasks live while somebody waits, and a while longer."""

    def __init__(self) -> None:
        # No two processes of any machine share it, nor this one with its predecessor.
        self.stream = f"llm:out:{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._reader: Reader = (
            RedisReader(self.stream) if bell.rings() else DatabaseReader(self.stream)
        )
        self._boxes: dict[str, Mailbox] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._idle_since = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="relay-look")

    def open(self, request: str) -> Mailbox:
        """From now on the request's events are kept for who takes them."""
        now = asyncio.get_running_loop().time()
        box = self._boxes[request] = Mailbox(request, now=now)
        if not self._tasks or any(task.done() for task in self._tasks):
            for task in self._tasks:
                task.cancel()
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._look())]
        return box

    def close(self, box: Mailbox) -> None:
        self._boxes.pop(box.request, None)
        self._idle_since = asyncio.get_running_loop().time()

    def _idle(self) -> bool:
        now = asyncio.get_running_loop().time()
        return not self._boxes and now - self._idle_since > LINGER_SECONDS

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._idle():
                try:
                    entries = await self._reader.read()
                except (RedisError, DatabaseError, OSError) as error:
                    log.warning("relay_not_read", error=str(error))
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                now = loop.time()
                for entry in entries:
                    for item in unpack(entry):
                        box = self._boxes.get(item.request)
                        if box is not None:
                            box.put(item, now)
        finally:
            await self._reader.close()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._idle():
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            doubtful = [
                box
                for box in self._boxes.values()
                if box.watched and not box.ended and now - box.heard_at > DOUBTFUL_SECONDS
            ]
            if not doubtful:
                continue
            keys = [uuid.UUID(box.request) for box in doubtful]
            try:
                states: Mapping[uuid.UUID, JobState]
                states = await loop.run_in_executor(self._thread, job_states, keys)
            except DatabaseError as error:
                log.warning("requests_not_looked_at", error=str(error))
                continue
            for key, box in zip(keys, doubtful, strict=True):
                box.look(states.get(key), loop.time())


@lru_cache(maxsize=1)
def _inbox(loop: asyncio.AbstractEventLoop) -> Inbox:
    return Inbox()


def inbox() -> Inbox:
    """The running loop's."""
    return _inbox(asyncio.get_running_loop())
