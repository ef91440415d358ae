"""What a model answers to rows: greedily, many at a time, by the engine that serves it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llm.engines.base import (
    AdapterSource,
    Delta,
    Ended,
    Event,
    Failed,
    GenerationRequest,
    LoadedModel,
    Sampling,
)
from mlops.exceptions import ApplicationError

# Requests in the engine's line beside those it works on.
WINDOW = 64
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt's tokens, under the number of its row."""

    number: int
    prompt: list[int]


@dataclass(frozen=True, slots=True)
class Answer:
    number: int
    text: str
    error: str = ""
    tokens: int = 0


def answers(
    model: LoadedModel,
    questions: Sequence[Question],
    *,
    adapter: AdapterSource | None,
    max_tokens: int,
    look: Callable[[], None],
) -> Iterator[Answer]:
    """In the order in which they are done; `look` is called between them and may raise."""
    done: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    waiting = iter(questions)
    under_way = 0
    while True:
        while under_way < WINDOW and (question := next(waiting, None)) is not None:
            _submit(model, question, adapter, max_tokens, done)
            under_way += 1
        if not under_way:
            return
        look()
        try:
            answer = done.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        under_way -= 1
        yield answer


def _submit(
    model: LoadedModel,
    question: Question,
    adapter: AdapterSource | None,
    max_tokens: int,
    done: queue.SimpleQueue[Answer],
) -> None:
    pieces: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Delta):
            pieces.append(event.text)
        elif isinstance(event, Failed):
            done.put(Answer(question.number, "", event.message))
        elif isinstance(event, Ended):
            text = "".join(pieces)
            done.put(Answer(question.number, text, tokens=event.usage.completion))

    room = model.context_length - len(question.prompt)
    request = GenerationRequest(
        id=str(question.number),
        prompt=question.prompt,
        adapter=adapter,
        sampling=Sampling(max_tokens=max(1, min(max_tokens, room)), temperature=0.0),
    )
    try:
        model.submit(request, listen)
    except ApplicationError as error:
        done.put(Answer(question.number, "", error.message))
