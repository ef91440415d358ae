"""Events on their way from an engine's thread to the server's loop."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.requests import ClientDisconnect

from llm.engines.base import Ended, Event, Failed, Listener


class Inbox:
    """One request's events; a single coroutine takes them."""

    def __init__(self) -> None:
        self.gone = False
        self._ended = False
        self._events: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Nothing follows a last event: an engine that was told to stop may still say its own."""
        if not self._ended:
            self._ended = isinstance(event, Ended | Failed)
            self._events.append(event)
            self._wake()

    def hang_up(self) -> None:
        """The client has gone: whoever takes next is told so."""
        self.gone = True
        self._wake()

    async def take(self) -> list[Event]:
        """What has come since the last call, one event at least. Raises ClientDisconnect."""
        while not self._events and not self.gone:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.gone:
            raise ClientDisconnect
        events, self._events = self._events, []
        return events

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Wire:
    """Wakes the loop once for all that an engine says in one go.

    A step of an engine gives a token to each of its requests, one right after the other. Waking
    the loop writes to a socket, which costs more than the event: with 32 requests a wake-up for
    each would take the engine milliseconds a step.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Inbox, Event]] = deque()
        self._awake = False
        self._cut = False

    def listener(self, inbox: Inbox) -> Listener:
        """What an engine is given; to be called in any one thread."""

        def tell(event: Event) -> None:
            self._waiting.append((inbox, event))
            # In this order: an event that comes while the last delivery ends wakes the loop anew.
            if not self._awake and not self._cut:
                self._awake = True
                self._loop.call_soon_threadsafe(self._deliver)

        return tell

    def cut(self) -> None:
        """The loop ends: what engines say from now on is not heard."""
        self._cut = True

    def _deliver(self) -> None:
        self._awake = False
        while self._waiting:
            inbox, event = self._waiting.popleft()
            inbox.put(event)
