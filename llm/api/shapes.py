"""OpenAI's objects of what comes back from a worker, for each of the generating endpoints."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from llm.engines.base import Ended, Usage
from llm.openai.answers import ChatAnswer, CompletionAnswer, embeddings_json
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest
from llm.relay.wire import Begun, Message, Vectors


class Shape(Protocol):
    """Makes the objects of one request."""

    def chunks(self, message: Message) -> Sequence[dict[str, Any]]:
        """What a stream says at this message."""
        ...

    def whole(self, messages: Iterable[Message]) -> dict[str, Any]:
        """The object that answers without a stream, of all messages. Raises ApplicationError."""
        ...


class ChatShape:
    def __init__(self, body: ChatRequest, key: uuid.UUID) -> None:
        self._answer = ChatAnswer(
            body, answer_id=f"chatcmpl-{key.hex}", created=int(time.time()), model=body.model
        )

    def chunks(self, message: Message) -> Sequence[dict[str, Any]]:
        if isinstance(message, Begun):
            self._answer.begin(message.tool_format)
            return ()
        assert not isinstance(message, Vectors)
        return self._answer.chunks(message)

    def whole(self, messages: Iterable[Message]) -> dict[str, Any]:
        events = []
        for message in messages:
            if isinstance(message, Begun):
                self._answer.begin(message.tool_format)
            elif not isinstance(message, Vectors):
                events.append(message)
        return self._answer.whole(events)


class CompletionShape:
    """The worker numbers the choices of all prompts through, and ends once for all."""

    def __init__(self, body: CompletionRequest, key: uuid.UUID) -> None:
        self._prompts = len(body.prompts)
        self._answer = CompletionAnswer(
            body, answer_id=f"cmpl-{key.hex}", created=int(time.time()), model=body.model
        )

    def chunks(self, message: Message) -> Sequence[dict[str, Any]]:
        if isinstance(message, Begun | Vectors):
            return ()
        made = self._answer.chunks(message)
        if isinstance(message, Ended):
            for _prompt in range(1, self._prompts):
                made = self._answer.chunks(Ended(Usage()))
        return made

    def whole(self, messages: Iterable[Message]) -> dict[str, Any]:
        return self._answer.whole(
            (0, message) for message in messages if not isinstance(message, Begun | Vectors)
        )


class EmbeddingShape:
    def __init__(self, body: EmbeddingRequest) -> None:
        self._body = body

    def chunks(self, message: Message) -> Sequence[dict[str, Any]]:
        return ()

    def whole(self, messages: Iterable[Message]) -> dict[str, Any]:
        [vectors] = [message for message in messages if isinstance(message, Vectors)]
        return embeddings_json(
            self._body, vectors.data, tokens=vectors.tokens, model=self._body.model
        )
