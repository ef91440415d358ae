"""The worker's side: gathers the events of all its requests and writes them, a stream at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

import structlog
from django.conf import settings

from llm.engines.base import Ended, Failed
from llm.relay import database, redis
from llm.relay.wire import Item, Message, Vectors, merged, pack
from mlops import bell

log = structlog.get_logger(__name__)

# How often each open request is said to be alive.
ALIVE_SECONDS = 1.0
# What can't be written is kept for about as long as its readers wait, then given up.
KEEP_SECONDS = 20.0
AGAIN_SECONDS = 0.2


class Writer(Protocol):
    """Puts entries on streams. `pause`: seconds to gather after a write, before the next."""

    pause: float

    def write(self, entries: list[tuple[str, str]]) -> bool:
        """(stream, entry) pairs, in order; False if they could not be written now."""
        ...


class Reply:
    """One request's way back. `send` is quick and safe to call from an engine's thread."""

    def __init__(self, outbox: Outbox, *, request: str, attempt: int, stream: str) -> None:
        self._outbox = outbox
        self.request, self.attempt, self.stream = request, attempt, stream
        # Written to the stream so far; the outbox's thread alone counts.
        self.number = 0
        self.ended = False

    def send(self, message: Message) -> None:
        """Nothing is sent after the last event."""
        if self.ended:
            return
        self.ended = isinstance(message, Ended | Failed | Vectors)
        if self.stream:
            self._outbox.put(self, message)


class Outbox:
    """One a process; its thread lives from the first request on."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._queue: queue.SimpleQueue[tuple[Reply, Message]] = queue.SimpleQueue()
        self._open: dict[Reply, None] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._unwritten: deque[tuple[float, str, str]] = deque()
        self._alive_at = 0.0

    @contextmanager
    def reply(self, *, request: str, attempt: int, stream: str) -> Iterator[Reply]:
        """A request's way back while it runs; meanwhile it is said to be alive."""
        reply = Reply(self, request=request, attempt=attempt, stream=stream)
        with self._lock:
            self._open[reply] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
                self._thread.start()
        try:
            yield reply
        finally:
            with self._lock:
                del self._open[reply]

    def put(self, reply: Reply, message: Message) -> None:
        self._queue.put((reply, message))

    def _run(self) -> None:
        self._alive_at = time.monotonic() + ALIVE_SECONDS
        while True:
            gathered = self._gather()
            self._tell_alive(gathered)
            self._write(gathered)
            if gathered:
                time.sleep(self._writer.pause)

    def _gather(self) -> dict[Reply, list[Message]]:
        """All that has been sent by now; waits for the first until the next sign of life."""
        gathered: dict[Reply, list[Message]] = defaultdict(list)
        wait = AGAIN_SECONDS if self._unwritten else self._alive_at - time.monotonic()
        try:
            reply, message = self._queue.get(timeout=max(0.0, wait))
            while True:
                gathered[reply].append(message)
                reply, message = self._queue.get_nowait()
        except queue.Empty:
            return gathered

    def _tell_alive(self, gathered: dict[Reply, list[Message]]) -> None:
        now = time.monotonic()
        if now < self._alive_at:
            return
        self._alive_at = now + ALIVE_SECONDS
        with self._lock:
            open_now = list(self._open)
        for reply in open_now:
            if reply.stream:
                gathered.setdefault(reply, [])

    def _write(self, gathered: dict[Reply, list[Message]]) -> None:
        items: dict[str, list[Item]] = defaultdict(list)
        for reply, messages in gathered.items():
            messages = merged(messages)
            items[reply.stream].append(Item(reply.request, reply.attempt, reply.number, messages))
            reply.number += len(messages)
        now = time.monotonic()
        self._unwritten.extend((now, stream, pack(each)) for stream, each in items.items())
        entries = [(stream, entry) for _at, stream, entry in self._unwritten]
        if not entries or self._writer.write(entries):
            self._unwritten.clear()
            return
        while self._unwritten and now - self._unwritten[0][0] > KEEP_SECONDS:
            # Its reader sees the gap, and says so to its client.
            self._unwritten.popleft()


@cache
def _outbox(url: str) -> Outbox:
    return Outbox(redis.RedisWriter() if bell.rings() else database.DatabaseWriter())


def outbox() -> Outbox:
    """This process's."""
    return _outbox(settings.CELERY_BROKER_URL)
