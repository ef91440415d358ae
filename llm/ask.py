"""Asks a loaded model and waits for the whole answer: for jobs that need it, not for streams."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass

from llm.engines.base import (
    AdapterSource,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    LoadedModel,
    TokenLogprob,
    Usage,
)
from llm.models import LanguageModel
from llm.sources import local_path
from mlops.exceptions import ApplicationError
from mlops.jobs import JobContext

# Between two looks at whether the job may go on.
CHECK_SECONDS = 0.5
# An engine ends a cancelled request within a token or two; one that hangs is not waited for.
CANCEL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """All `n` answers to one request, by index; `logprobs` are empty unless asked for."""

    texts: tuple[str, ...]
    finish_reasons: tuple[FinishReason, ...]
    usage: Usage
    logprobs: tuple[tuple[TokenLogprob, ...], ...]

    @property
    def text(self) -> str:
        """The first answer, which is the only one unless `n` was given."""
        return self.texts[0]


class AnswerParts:
    """Gathers a request's events; `whole()` once it has ended."""

    def __init__(self, n: int) -> None:
        self.texts: list[list[str]] = [[] for _ in range(n)]
        self.reasons: list[FinishReason] = ["stop"] * n
        self.logprobs: list[list[TokenLogprob]] = [[] for _ in range(n)]
        self.usage = Usage()

    def add(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.texts[event.index].append(event.text)
            self.logprobs[event.index].extend(event.logprobs)
        elif isinstance(event, Finished):
            self.reasons[event.index] = event.reason
        elif isinstance(event, Ended):
            self.usage = event.usage

    def whole(self) -> Answer:
        return Answer(
            texts=tuple("".join(parts) for parts in self.texts),
            finish_reasons=tuple(self.reasons),
            usage=self.usage,
            logprobs=tuple(tuple(each) for each in self.logprobs),
        )


def ask(
    loaded: LoadedModel,
    request: GenerationRequest,
    *,
    context: JobContext | None = None,
    on_text: Callable[[int, str], None] | None = None,
) -> Answer:
    """Blocks until the answer is there; `on_text(index, text)` is told of each piece, in order.

    With a `context` the request is cancelled when the job must end, and what ends it is raised.
    Raises ApplicationError for a request that the engine refuses or fails at.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    loaded.submit(request, events.put)
    parts = AnswerParts(request.n)
    try:
        while True:
            event = _next(events, context)
            if isinstance(event, Failed):
                raise failure(event)
            parts.add(event)
            if isinstance(event, Ended):
                return parts.whole()
            if on_text is not None and isinstance(event, Delta) and event.text:
                on_text(event.index, event.text)
    except ApplicationError:
        raise
    except BaseException:
        # Whatever ended the wait (a cancel, a lost lease, Ctrl-C) ends the generation too.
        loaded.cancel(request.id)
        _drain(events)
        raise


def failure(event: Failed) -> ApplicationError:
    """What an engine's Failed means to who asked."""
    return ApplicationError(event.message, code=event.code, status=event.status, param=event.param)


def adapter_of(model: LanguageModel) -> AdapterSource | None:
    """What the engine loads beside the base; None for a base. Raises EngineUnavailable."""
    if model.base_id is None:
        return None
    return AdapterSource(name=model.name, path=local_path(model.source))


def _next(events: queue.SimpleQueue[Event], context: JobContext | None) -> Event:
    while True:
        try:
            return events.get(timeout=CHECK_SECONDS if context is not None else None)
        except queue.Empty:
            assert context is not None
            context.check()


def _drain(events: queue.SimpleQueue[Event]) -> None:
    try:
        while not isinstance(events.get(timeout=CANCEL_SECONDS), Ended | Failed):
            pass
    except queue.Empty:
        pass
