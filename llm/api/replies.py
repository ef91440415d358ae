"""From the events of a request to its HTTP response: whole, or as server-sent events.

The first event is awaited before the response begins, so that what is wrong with a request is a
status and not an event. A client that hangs up stops its request.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.db import close_old_connections
from django.http import JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from llm import limits
from llm.api.shapes import Shape
from llm.engines.base import Ended, Failed, Finished
from llm.limits import Caller
from llm.relay.inbox import Inbox, Mailbox
from llm.relay.wire import Begun, Message, Vectors
from llm.services.generations import generation_cancel, generation_give_up
from mlops.api import error_body
from mlops.exceptions import ApplicationError
from mlops.request_thread import request_thread_end

# A stream whose request still waits is begun after this long, so that proxies see it alive.
HEAD_SECONDS = 15.0
COMMENT_SECONDS = 10.0
# A client that goes at the moment of the response leaves a stream that nobody begins to send.
START_SECONDS = 10.0
COMMENT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"
# For as long a cancelled request is waited for, to count what it took.
DRAIN_SECONDS = 10.0
RETRY_AFTER = {"no_worker_free": "5", "engine_unavailable": "30", "worker_lost": "1"}
# What the web process itself has found out; the row has to be told.
FOUND_HERE = ("no_worker_free", "worker_lost")

_thread = ThreadPoolExecutor(4, thread_name_prefix="reply")
_under_way: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that has been accepted and sent to a worker."""

    key: uuid.UUID
    caller: Caller
    shape: Shape
    streamed: bool
    headers: dict[str, str]


async def respond(ticket: Ticket, inbox: Inbox, box: Mailbox) -> HttpResponseBase:
    """The response to a request whose events come to `box`."""
    end = _End(ticket, inbox, box)
    try:
        if ticket.streamed:
            return await _streamed(ticket, box, end)
        return await _whole(ticket, box, end)
    except BaseException:
        end()
        raise


def abandon(key: uuid.UUID, inbox: Inbox, box: Mailbox) -> None:
    """Stops a request, if it was made, whose client went before anybody waited for it."""
    inbox.close(box)
    _in_background(_threaded(lambda: generation_cancel(pk=key)))


async def _whole(ticket: Ticket, box: Mailbox, end: _End) -> HttpResponseBase:
    messages: list[Message] = []
    while not box.ended or not messages or not _is_last(messages[-1]):
        messages += await box.take()
    end(messages)
    fault = _fault(messages)
    if fault is not None:
        return error_json(fault, ticket.headers)
    try:
        return JsonResponse(ticket.shape.whole(messages), headers=ticket.headers)
    except ApplicationError as error:
        return error_json(
            Failed(error.message, error.code, error.param, error.status), ticket.headers
        )


async def _streamed(ticket: Ticket, box: Mailbox, end: _End) -> HttpResponseBase:
    head: list[Message] = []
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            while not head or isinstance(head[-1], Begun):
                head += await box.take()
    except TimeoutError:
        pass
    fault = _fault([message for message in head if not isinstance(message, Begun)][:1])
    if fault is not None:
        end(head)
        return error_json(fault, ticket.headers)
    asyncio.get_running_loop().call_later(START_SECONDS, end.unless_begun)
    response = StreamingHttpResponse(
        _events(ticket, box, head, end), content_type="text/event-stream", headers=ticket.headers
    )
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


async def _events(
    ticket: Ticket, box: Mailbox, messages: list[Message], end: _End
) -> AsyncIterator[bytes]:
    end.begun = True
    request_thread_end()
    try:
        while True:
            for message in messages:
                if _is_last(message) or _stopped(message):
                    # Written down before the last bytes leave: nothing runs after them for sure.
                    end(messages)
            text = b"".join(_written(ticket.shape, messages))
            if text:
                yield text
            if messages and (_is_last(messages[-1]) or _fault(messages) is not None):
                return
            try:
                async with asyncio.timeout(COMMENT_SECONDS):
                    messages = await box.take()
            except TimeoutError:
                messages = []
                yield COMMENT
    finally:
        end()


def _written(shape: Shape, messages: list[Message]) -> Iterable[bytes]:
    for message in messages:
        fault = _fault([message])
        if fault is not None:
            yield _event(fault_body(fault))
            return
        for chunk in shape.chunks(message):
            yield _event(chunk)
        if isinstance(message, Ended):
            yield DONE


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _is_last(message: Message) -> bool:
    return isinstance(message, Ended | Failed | Vectors)


def _stopped(message: Message) -> bool:
    return isinstance(message, Finished) and message.reason == "cancelled"


def _fault(messages: Iterable[Message]) -> Failed | None:
    for message in messages:
        if isinstance(message, Failed):
            return message
        if _stopped(message):
            return Failed("The request was cancelled by an operator.", "cancelled", None, 500)
    return None


def fault_body(fault: Failed) -> dict[str, Any]:
    return error_body(
        message=fault.message, code=fault.code, status=fault.status, param=fault.param
    )


def error_json(fault: Failed, headers: dict[str, str]) -> JsonResponse:
    response = JsonResponse(fault_body(fault), status=fault.status, headers=headers)
    if fault.status >= 500 and fault.code in RETRY_AFTER:
        response.headers["Retry-After"] = RETRY_AFTER[fault.code]
    return response


class _End:
    """What follows when nobody waits for a request any more; once, whichever way it came."""

    def __init__(self, ticket: Ticket, inbox: Inbox, box: Mailbox) -> None:
        self._ticket, self._inbox, self._box = ticket, inbox, box
        self._done = False
        self.begun = False

    def unless_begun(self) -> None:
        if not self.begun:
            self()

    def __call__(self, messages: Iterable[Message] = ()) -> None:
        """`messages`: the last that were read. Without an end among them the client has gone."""
        if self._done:
            return
        self._done = True
        last = next((one for one in messages if _is_last(one)), None)
        work: Callable[[], None] | None = None
        if isinstance(last, Failed):
            self._inbox.close(self._box)
            if last.code in FOUND_HERE:
                work = self._give_up(last)
        elif last is not None:
            self._inbox.close(self._box)
            if self._ticket.caller.limit("tokens_per_minute"):
                work = self._spend(last)
        else:
            _in_background(self._hang_up())
            return
        if work is not None:
            _in_background(_threaded(work))

    async def _hang_up(self) -> None:
        """Stops the request, and counts what it had taken by then."""
        pk = self._ticket.key
        try:
            await _threaded(lambda: generation_cancel(pk=pk))
            async with asyncio.timeout(DRAIN_SECONDS):
                last = await self._last()
            await _threaded(self._spend(last))
        except TimeoutError:
            pass
        finally:
            self._inbox.close(self._box)

    async def _last(self) -> Message:
        while True:
            for message in await self._box.take():
                if _is_last(message):
                    return message

    def _give_up(self, fault: Failed) -> Callable[[], None]:
        pk = self._ticket.key
        return lambda: generation_give_up(pk=pk, code=fault.code, error=fault.message)

    def _spend(self, last: Message) -> Callable[[], None]:
        tokens = last.tokens if isinstance(last, Vectors) else 0
        if isinstance(last, Ended):
            tokens = last.usage.prompt + last.usage.completion
        caller = self._ticket.caller
        return lambda: limits.spend(caller, tokens)


def _in_background(work: Any) -> None:
    """Apart from the request's own task, which may be cancelled at this moment."""
    task = asyncio.get_running_loop().create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def _threaded(work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        finally:
            close_old_connections()

    await asyncio.get_running_loop().run_in_executor(_thread, run)
