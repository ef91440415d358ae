"""From a request's events to its HTTP response: whole, or as server-sent events.

The first event is awaited before the response begins, so that what is wrong with a request is a
status and not an event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from llm.engines.base import Event, Failed, GenerationRequest
from llm.serving.desk import Desk, Offer, Ticket
from mlops.api import error_body
from mlops.exceptions import ApplicationError
from mlops.serving.answers import Nothing, until_gone

DONE = b"data: [DONE]\n\n"

# One prompt's place among the request's prompts, and what has come of it.
Told = tuple[int, Event]


class EngineFailed(ApplicationError):
    """An engine's Failed; `retry_after` in seconds, if it knows."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message, code=failed.code, param=failed.param, status=failed.status)
        self.retry_after = failed.retry_after


class Answering:
    """All prompts of one HTTP request, under way at once.

    Leave it, as a context, and what has not ended is cancelled.
    """

    def __init__(self, desk: Desk, offer: Offer, requests: Sequence[GenerationRequest]) -> None:
        self._desk, self._offer, self._requests = desk, offer, requests
        self._tickets: list[Ticket] = []
        self._gone = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Answering:
        """Raises ApplicationError for what the engine refuses at once."""
        try:
            for request in self._requests:
                ticket = self._desk.ticket(self._offer, request)
                self._tickets.append(await self._stack.enter_async_context(ticket))
        except BaseException:
            await self._stack.aclose()
            raise
        if self._gone:
            self.hang_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def hang_up(self) -> None:
        """The client has gone: whoever waits for events is told so."""
        self._gone = True
        for ticket in self._tickets:
            ticket.inbox.hang_up()

    async def events(self) -> AsyncGenerator[list[Told]]:
        """What has come, until all has. Raises EngineFailed and ClientDisconnect."""
        if len(self._tickets) == 1:
            # The usual case, without a task for each token.
            while not self._tickets[0].ended:
                for told in _told(0, await self._tickets[0].take()):
                    yield told
            return
        waiting = {self._next(place): place for place in range(len(self._tickets))}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for taking in done:
                    place = waiting.pop(taking)
                    for told in _told(place, taking.result()):
                        yield told
                    if not self._tickets[place].ended:
                        waiting[self._next(place)] = place
        finally:
            for taking in waiting:
                taking.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _next(self, place: int) -> asyncio.Task[list[Event]]:
        return asyncio.ensure_future(self._tickets[place].take())


def _told(place: int, events: list[Event]) -> Iterator[list[Told]]:
    """Raises EngineFailed after what came before the failure."""
    failed = events.pop() if isinstance(events[-1], Failed) else None
    if events:
        yield [(place, event) for event in events]
    if failed is not None:
        raise EngineFailed(failed)


async def whole(
    request: Request, answering: Answering, made: Callable[[list[Told]], dict[str, Any]]
) -> Response:
    """The answer in one piece."""
    gone = asyncio.create_task(_watch(request, answering))
    try:
        told: list[Told] = []
        async with answering:
            async for events in answering.events():
                told += events
    finally:
        gone.cancel()
    return JSONResponse(made(told))


class EventStream(Response):
    """The answer as it is made: an event a chunk, `[DONE]` at the end.

    What comes of a request in one step of the engine goes out in one write. `ended` is told the
    status that it came to, whatever the client was told at the beginning.
    """

    def __init__(
        self,
        answering: Answering,
        chunks: Callable[[Told], Iterable[dict[str, Any]]],
        *,
        ended: Callable[[int], None],
    ) -> None:
        self.status_code = 200
        self.background = None
        self._answering, self._chunks, self._ended = answering, chunks, ended
        self._events = answering.events()
        self._first: list[Told] = []
        self._gone: asyncio.Task[None]

    async def begin(self, request: Request) -> None:
        """Waits for the first event. Raises ApplicationError and ClientDisconnect."""
        self._gone = asyncio.create_task(_watch(request, self._answering))
        try:
            await self._answering.__aenter__()
            self._first = await anext(self._events)
        except BaseException:
            await self._leave()
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        status = 200
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send(_body(self._written(self._first)))
            async for events in self._events:
                await send(_body(self._written(events)))
            await send(_body(DONE, more=False))
        except EngineFailed as error:
            status = error.status
            fault = error_body(
                message=error.message, code=error.code, status=error.status, param=error.param
            )
            await send(_body(_event(fault), more=False))
        except ClientDisconnect:
            status = Nothing.status_code
        finally:
            await self._leave()
            self._ended(status)

    def _written(self, events: list[Told]) -> bytes:
        return b"".join(_event(chunk) for told in events for chunk in self._chunks(told))

    async def _leave(self) -> None:
        self._gone.cancel()
        await self._events.aclose()
        await self._answering.__aexit__()


async def _watch(request: Request, answering: Answering) -> None:
    await until_gone(request)
    answering.hang_up()


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _body(content: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}
