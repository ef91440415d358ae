"""The engine that asks a language model, bound to the schema by constrained decoding."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llm.engines.base import (
    AdapterSource,
    GenerationRequest,
    Grammar,
    LoadedModel,
    Sampling,
    Usage,
)
from llm.extraction.base import Extraction, PageText, Task
from llm.extraction.fields import problems_of
from llm.extraction.prompt import compact, messages, page_lines
from llm.extraction.windows import merged, windows
from mlops.exceptions import ApplicationError, JobFailed

# At most this of the context is kept for the answer; it is bound by the schema and mostly short.
ANSWER_TOKENS = 2048
# Fewer tokens of text a window make no sense: the model is too small for this schema.
LEAST_TEXT = 64


class Reply(Protocol):
    """What comes back of one request, such as `llm.ask.Answer`."""

    @property
    def text(self) -> str: ...

    @property
    def usage(self) -> Usage: ...


@dataclass(frozen=True, slots=True)
class ModelEngine:
    """`ask` sends a request and waits for the whole answer; `adapter` is of a LoRA model."""

    name: str
    loaded: LoadedModel
    ask: Callable[[GenerationRequest], Reply]
    adapter: AdapterSource | None = None

    def extract(self, pages: Sequence[PageText], task: Task) -> Extraction:
        """One request a window, and one more where the answer breaks the schema."""
        lines = page_lines(pages)
        if not lines:
            raise JobFailed("No text was found in the document.", code="no_text")
        pieces = windows(lines, count=self.loaded.count, most=self._room(task))
        answers = [self._values("\n".join(piece), task) for piece in pieces]
        values = merged([values for values, _replies in answers])
        replies = [reply for _values, replies in answers for reply in replies]
        return Extraction(
            values,
            problems_of(values, task.schema),
            tries=len(replies),
            windows=len(pieces),
            prompt_tokens=sum(reply.usage.prompt for reply in replies),
            completion_tokens=sum(reply.usage.completion for reply in replies),
        )

    def _values(self, text: str, task: Task) -> tuple[dict[str, Any], list[Reply]]:
        """Of one window, after at most two tries; the second is told what was wrong."""
        replies: list[Reply] = []
        mistake = ""
        values: dict[str, Any] | None = None
        for _try in range(2):
            reply = self.ask(self._request(text, task, mistake))
            replies.append(reply)
            found = _parsed(reply.text)
            if found is None:
                mistake = "it is no JSON object."
                continue
            values = found
            problems = problems_of(found, task.schema)
            if not problems:
                break
            mistake = f"{problems[0]['path'] or 'the object'}: {problems[0]['message']}"
        if values is None:
            raise JobFailed(
                f"{self.name} answered twice with no whole JSON object. Give it a smaller schema "
                "or a longer context, or take another model.",
                code="invalid_answer",
            )
        return values, replies

    def _request(self, text: str, task: Task, mistake: str) -> GenerationRequest:
        return GenerationRequest(
            id=f"extract-{uuid.uuid4().hex}",
            messages=messages(text, task, mistake=mistake),
            adapter=self.adapter,
            sampling=Sampling(
                max_tokens=self._answer_tokens(),
                temperature=0.0,
                grammar=Grammar("json_schema", compact(task.schema)),
            ),
        )

    def _answer_tokens(self) -> int:
        return min(ANSWER_TOKENS, self.loaded.context_length // 3)

    def _room(self, task: Task) -> int:
        """Tokens of text that fit beside the instructions, a complaint and the answer."""
        try:
            fixed = self.loaded.count(self.loaded.render(messages("", task, mistake="x" * 200)))
        except ApplicationError as error:
            raise JobFailed(error.message, code=error.code) from error
        room = self.loaded.context_length - self._answer_tokens() - fixed - 8
        if room < LEAST_TEXT:
            raise JobFailed(
                f"The schema, the instructions and the examples take {fixed} of the "
                f"{self.loaded.context_length} tokens that {self.name} can hold. Shorten them, or "
                "take a model with a longer context.",
                code="context_length_exceeded",
            )
        return room


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
