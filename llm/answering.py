"""Hears the events of one request in the engine's thread, and passes on what its reader wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from llm.ask import AnswerParts
from llm.engines.base import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    GenerationRequest,
    LoadedModel,
    Usage,
)
from llm.relay.outbox import Reply
from mlops.exceptions import ApplicationError


class Answering:
    """Several prompts of one request are asked for at once; their answers are numbered through.

    `done` is set once the last of them has ended; `last` is then Ended with the usage of all, or
    the first Failed.
    """

    def __init__(
        self, reply: Reply, requests: Sequence[GenerationRequest], *, streamed: bool
    ) -> None:
        self.parts = AnswerParts(sum(request.n for request in requests))
        self.last: Event | None = None
        self.done = threading.Event()
        self._reply, self._requests, self._streamed = reply, requests, streamed
        self._open = len(requests)
        self._usage = Usage()
        self._cut_off: list[Finished] = []
        self._started = time.monotonic()
        self._first_at: float | None = None

    @property
    def first_token_ms(self) -> float | None:
        """From when it was handed to the engine."""
        return None if self._first_at is None else (self._first_at - self._started) * 1000

    def submit(self, loaded: LoadedModel) -> None:
        """Raises ApplicationError if the engine refuses one of them; then none goes on."""
        first = 0
        for number, request in enumerate(self._requests):
            try:
                loaded.submit(request, self._listener(first))
            except ApplicationError:
                for earlier in self._requests[:number]:
                    loaded.cancel(earlier.id)
                raise
            first += request.n

    def send_rest(self) -> None:
        """What has not been sent as it came: the end, and all of it without a stream."""
        if not self._streamed:
            answer = self.parts.whole()
            for index, text in enumerate(answer.texts):
                self._reply.send(Delta(index, text, answer.logprobs[index]))
                self._reply.send(Finished(index, answer.finish_reasons[index]))
        else:
            for event in self._cut_off:
                self._reply.send(event)
        self._reply.send(Ended(self._usage))

    def _listener(self, first: int) -> Callable[[Event], None]:
        def hear(event: Event) -> None:
            if isinstance(event, Ended | Failed):
                self._end(event)
                return
            if first:
                event = replace(event, index=first + event.index)
            if self._first_at is None:
                self._first_at = time.monotonic()
            self.parts.add(event)
            if isinstance(event, Finished) and event.reason == "cancelled":
                # Whether its reader is told so depends on who has cancelled it.
                self._cut_off.append(event)
            elif self._streamed:
                self._reply.send(event)

        return hear

    def _end(self, event: Ended | Failed) -> None:
        """All events come from one thread: nothing here needs a lock."""
        self._open -= 1
        if isinstance(event, Ended):
            self._usage = Usage(
                self._usage.prompt + event.usage.prompt,
                self._usage.completion + event.usage.completion,
                self._usage.cached + event.usage.cached,
            )
        if not isinstance(self.last, Failed):
            self.last = event if isinstance(event, Failed) else Ended(self._usage)
        if self._open == 0:
            self.parts.add(Ended(self._usage))
            self.done.set()
