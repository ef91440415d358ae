"""Keeps many requests in flight in one loaded model, and gives the answers as they come."""

from __future__ import annotations

import heapq
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from llm.ask import failure
from llm.batch.calls import Call, EmbeddingCall
from llm.engines.base import (
    AdapterSource,
    Embeddings,
    Ended,
    Event,
    Failed,
    LoadedModel,
    Usage,
)
from mlops.exceptions import ApplicationError

# Embeddings are made by calls that wait; so many wait at once.
EMBEDDERS = 4
# A failure that may pass (a server away, a model dropped) is tried again until it was tried so
# often, each time after four times as long.
TRIES = 4
# Between two looks of the caller at whether to go on.
LOOK_SECONDS = 0.5

NO_TOKENS = Usage()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: the body of the answer, or `{"error": …}` with its status."""

    key: int
    status: int
    body: dict[str, Any]
    usage: Usage = NO_TOKENS

    @property
    def ok(self) -> bool:
        return self.status == 200


@dataclass(eq=False, slots=True)
class Flight:
    """A call on its way: `left` of its requests have not ended."""

    call: Call
    id: str
    tries: int
    requests: list[str] = field(default_factory=list)
    left: int = 0
    events: list[tuple[int, Event]] = field(default_factory=list)
    error: ApplicationError | None = None
    made: Future[Embeddings] | None = None


class Window:
    """At most `size` calls in flight. `pause`: seconds before a failed one is tried again."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        size: int,
        pause: float,
        adapter: AdapterSource | None = None,
    ) -> None:
        self._loaded, self._adapter = loaded, adapter
        self._size, self._pause = size, pause
        self._ends: queue.SimpleQueue[Flight] = queue.SimpleQueue()
        self._flights: set[Flight] = set()
        # (when, a number that keeps calls from being compared, call, tries)
        self._later: list[tuple[float, int, Call, int]] = []
        self._embedders = ThreadPoolExecutor(EMBEDDERS, thread_name_prefix="embed")

    def answers(self, calls: Iterable[Call]) -> Iterator[list[Outcome]]:
        """Outcomes in the order of their ends, as many as have come; now and then none.

        Whoever stops iterating ends what is in flight. Raises EngineUnavailable.
        """
        waiting = iter(calls)
        more = True
        try:
            while True:
                more = self._fill(waiting, more)
                if not (more or self._flights or self._later):
                    return
                yield self._collect()
        finally:
            for flight in self._flights:
                self._cancel(flight)
            self._embedders.shutdown(wait=True, cancel_futures=True)

    def _fill(self, waiting: Iterator[Call], more: bool) -> bool:
        """Sends calls until the window is full; whether there may be more of them."""
        now = time.monotonic()
        while len(self._flights) < self._size:
            if self._later and self._later[0][0] <= now:
                _when, _number, call, tries = heapq.heappop(self._later)
                self._send(call, tries)
                continue
            call = next(waiting, None) if more else None
            if call is None:
                return False
            self._send(call, 1)
        return more

    def _send(self, call: Call, tries: int) -> None:
        flight = Flight(call, uuid.uuid4().hex, tries)
        self._flights.add(flight)
        if isinstance(call, EmbeddingCall):
            flight.left = 1
            flight.made = self._embedders.submit(self._loaded.embed, call.body.texts)
            flight.made.add_done_callback(lambda _made: self._ends.put(flight))
            return
        try:
            for number, request in enumerate(call.requests(flight.id, self._loaded, self._adapter)):
                self._loaded.submit(request, self._listener(flight, number * request.n))
                flight.requests.append(request.id)
                flight.left += 1
        except ApplicationError as error:
            flight.error = error
            if flight.left:
                self._cancel(flight)
            else:
                self._ends.put(flight)

    def _listener(self, flight: Flight, first: int) -> Callable[[Event], None]:
        """Runs in the engine's thread: only gathers."""

        def listen(event: Event) -> None:
            flight.events.append((first, event))
            if isinstance(event, Ended | Failed):
                self._ends.put(flight)

        return listen

    def _cancel(self, flight: Flight) -> None:
        for request in flight.requests:
            self._loaded.cancel(request)

    def _collect(self) -> list[Outcome]:
        wait = LOOK_SECONDS
        if self._later and not self._flights:
            wait = min(wait, max(0.0, self._later[0][0] - time.monotonic()))
        outcomes: list[Outcome] = []
        with suppress(queue.Empty):
            outcomes += self._end(self._ends.get(timeout=wait))
            while True:
                outcomes += self._end(self._ends.get_nowait())
        return outcomes

    def _end(self, flight: Flight) -> list[Outcome]:
        """Of one of the flight's requests; its outcome with the last of them."""
        flight.left -= 1
        if flight.left > 0:
            return []
        self._flights.discard(flight)
        try:
            return [self._outcome(flight)]
        except ApplicationError as error:
            if (error.status >= 500 or error.status == 429) and flight.tries < TRIES:
                due = time.monotonic() + self._pause * 4 ** (flight.tries - 1)
                heapq.heappush(self._later, (due, id(flight), flight.call, flight.tries + 1))
                return []
            return [Outcome(flight.call.key, error.status, failed(error))]

    def _outcome(self, flight: Flight) -> Outcome:
        """Raises ApplicationError for a call that failed, whatever else went wrong as it is."""
        call = flight.call
        if flight.made is not None:
            assert isinstance(call, EmbeddingCall)
            made = flight.made.result()
            return Outcome(call.key, 200, call.answer(made), Usage(prompt=made.tokens))
        assert not isinstance(call, EmbeddingCall)
        for _first, event in flight.events:
            if isinstance(event, Failed):
                raise failure(event)
        if flight.error is not None:
            raise flight.error
        body = call.answer(flight.id, flight.events, self._loaded)
        return Outcome(call.key, 200, body, _total(flight.events))


def failed(error: ApplicationError) -> dict[str, Any]:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


def _total(events: list[tuple[int, Event]]) -> Usage:
    ended = [event.usage for _first, event in events if isinstance(event, Ended)]
    return Usage(
        sum(usage.prompt for usage in ended),
        sum(usage.completion for usage in ended),
        sum(usage.cached for usage in ended),
    )
