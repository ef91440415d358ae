"""A request of a batch as the engine takes it, and its answer as OpenAI has it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from llm.engines.base import AdapterSource, Embeddings, Event, GenerationRequest, LoadedModel
from llm.openai.answers import ChatAnswer, CompletionAnswer, embeddings_answer
from llm.openai.generation import chat_generation, completion_generations
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"

# Of which of a call's requests an event is: the number of that request's first choice.
Events = Sequence[tuple[int, Event]]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """`key` is what the caller knows it by."""

    key: int
    body: ChatRequest
    prefix: ClassVar[str] = "chatcmpl-"

    def requests(
        self, id: str, loaded: LoadedModel, adapter: AdapterSource | None
    ) -> list[GenerationRequest]:
        """Raises ApplicationError for what this model can't do."""
        form = loaded.tool_format if self.body.tools else ""
        return [
            chat_generation(self.body, request_id=id, tool_format=form, adapter=adapter),
        ]

    def answer(self, id: str, events: Events, loaded: LoadedModel) -> dict[str, Any]:
        answer = ChatAnswer(
            self.body,
            answer_id=f"{self.prefix}{id}",
            created=int(time.time()),
            model=self.body.model,
        )
        if self.body.tools:
            answer.begin(loaded.tool_format)
        return answer.whole(event for _first, event in events)


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A request for each of its prompts."""

    key: int
    body: CompletionRequest
    prefix: ClassVar[str] = "cmpl-"

    def requests(
        self, id: str, loaded: LoadedModel, adapter: AdapterSource | None
    ) -> list[GenerationRequest]:
        return completion_generations(self.body, request_id=id, adapter=adapter)

    def answer(self, id: str, events: Events, loaded: LoadedModel) -> dict[str, Any]:
        answer = CompletionAnswer(
            self.body,
            answer_id=f"{self.prefix}{id}",
            created=int(time.time()),
            model=self.body.model,
        )
        return answer.whole(events)


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    key: int
    body: EmbeddingRequest

    def answer(self, made: Embeddings) -> dict[str, Any]:
        return embeddings_answer(self.body, made, model=self.body.model)


Call = ChatCall | CompletionCall | EmbeddingCall


def call_of(key: int, endpoint: str, body: Mapping[str, Any]) -> Call:
    """Raises ApplicationError naming the field at fault."""
    if endpoint == CHAT:
        return ChatCall(key, ChatRequest.parse(body))
    if endpoint == COMPLETIONS:
        return CompletionCall(key, CompletionRequest.parse(body))
    return EmbeddingCall(key, EmbeddingRequest.parse(body))
