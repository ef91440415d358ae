"""OpenAI's objects of an engine's events: chunks of a stream, or the whole answer."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from llm.engines.base import (
    Delta,
    Embeddings,
    Ended,
    Event,
    Finished,
    TokenLogprob,
    Usage,
)
from llm.openai.generation import forces_tools
from llm.openai.requests import ChatRequest, CompletionRequest, EmbeddingRequest, InvalidRequest
from llm.tools import CallArguments, CallStart, Piece, Text, ToolCallReader


def usage_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


class ChatAnswer:
    """One chat request's answer, streamed (`chunks`) or whole (`whole`).

    `created`: seconds since the epoch. `model`: the name that the client is told.
    """

    def __init__(
        self,
        body: ChatRequest,
        *,
        answer_id: str,
        created: int,
        model: str,
        fingerprint: str | None = None,
    ) -> None:
        self._body = body
        self._head = {"id": answer_id, "created": created, "model": model}
        self._fingerprint = fingerprint
        self._readers: dict[int, ToolCallReader] = {}
        self._tool_format = ""
        self._begun: set[int] = set()

    def begin(self, tool_format: str) -> None:
        """The form of tool calls of the model that answers; before its first event."""
        offered = self._body.tools and self._body.tool_choice != "none"
        self._tool_format = tool_format if offered else ""

    # -- streamed -----------------------------------------------------------------------------

    def chunks(self, event: Event) -> list[dict[str, Any]]:
        """`chat.completion.chunk`s of this event; none of a Failed, which is an error's matter."""
        if isinstance(event, Delta):
            pieces = self._reader(event.index).feed(event.text)
            return self._pieces(event.index, pieces, event.logprobs)
        if isinstance(event, Finished):
            rest = self._pieces(event.index, self._reader(event.index).finish(), ())
            reason = self._reason(event)
            return [*rest, self._chunk(event.index, {}, finish_reason=reason)]
        if isinstance(event, Ended) and self._body.include_usage:
            return [{**self._chunk_head(), "choices": [], "usage": usage_json(event.usage)}]
        return []

    def _pieces(
        self, index: int, pieces: Sequence[Piece], logprobs: Sequence[TokenLogprob]
    ) -> list[dict[str, Any]]:
        deltas = [_delta(piece) for piece in pieces]
        if not deltas and logprobs:
            # Held back as what may be a call: its probabilities are told all the same.
            deltas = [{}]
        made = []
        if index not in self._begun:
            self._begun.add(index)
            made.append(self._chunk(index, {"role": "assistant", "content": ""}))
        for number, delta in enumerate(deltas):
            told = chat_logprobs(logprobs) if logprobs and number == 0 else None
            made.append(self._chunk(index, delta, logprobs=told))
        return made

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk = {**self._chunk_head(), "choices": [choice]}
        if self._body.include_usage:
            chunk["usage"] = None
        return chunk

    def _chunk_head(self) -> dict[str, Any]:
        return {
            **self._head,
            "object": "chat.completion.chunk",
            "system_fingerprint": self._fingerprint,
        }

    # -- whole --------------------------------------------------------------------------------

    def whole(self, events: Iterable[Event]) -> dict[str, Any]:
        """`chat.completion` of all events of a request that went well."""
        choices: dict[int, dict[str, Any]] = {}
        usage = Usage()
        for event in events:
            if isinstance(event, Ended):
                usage = event.usage
            elif isinstance(event, Delta | Finished):
                choice = choices.setdefault(event.index, _Choice())
                reader = self._reader(event.index)
                if isinstance(event, Delta):
                    choice.take(reader.feed(event.text))
                    choice.logprobs += event.logprobs
                else:
                    choice.take(reader.finish())
                    choice.reason = self._reason(event)
        told = bool(self._body.logprobs)
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choices[index].json(index, told) for index in sorted(choices)],
            "usage": usage_json(usage),
            "system_fingerprint": self._fingerprint,
        }

    # -----------------------------------------------------------------------------------------

    def _reader(self, index: int) -> ToolCallReader:
        if index not in self._readers:
            forced = forces_tools(self._body)
            self._readers[index] = ToolCallReader(self._tool_format, forced=forced)
        return self._readers[index]

    def _reason(self, event: Finished) -> str:
        if event.reason == "cancelled":
            return "stop"
        if event.reason == "stop" and self._reader(event.index).calls:
            return "tool_calls"
        return event.reason


class _Choice:
    """One answer as it is put together."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: tuple[TokenLogprob, ...] = ()
        self.reason = "stop"

    def take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, Text):
                self.texts.append(piece.text)
            elif isinstance(piece, CallStart):
                function = {"name": piece.name, "arguments": ""}
                self.calls.append({"id": piece.id, "type": "function", "function": function})
            else:
                self.calls[piece.index]["function"]["arguments"] += piece.fragment

    def json(self, index: int, logprobs: bool) -> dict[str, Any]:
        text = "".join(self.texts)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not text else text,
            "refusal": None,
        }
        if self.calls:
            message["tool_calls"] = self.calls
        return {
            "index": index,
            "message": message,
            "logprobs": chat_logprobs(self.logprobs) if logprobs else None,
            "finish_reason": self.reason,
        }


def _delta(piece: Piece) -> dict[str, Any]:
    if isinstance(piece, Text):
        return {"content": piece.text}
    if isinstance(piece, CallStart):
        function = {"name": piece.name, "arguments": ""}
        call = {"index": piece.index, "id": piece.id, "type": "function", "function": function}
    else:
        assert isinstance(piece, CallArguments)
        call = {"index": piece.index, "function": {"arguments": piece.fragment}}
    return {"tool_calls": [call]}


def chat_logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """The `logprobs` of a chat choice."""
    content = [
        {
            "token": one.token,
            "bytes": list(one.bytes),
            "logprob": one.logprob,
            "top_logprobs": [
                {"token": token, "bytes": list(raw), "logprob": logprob}
                for token, raw, logprob in one.top
            ],
        }
        for one in tokens
    ]
    return {"content": content, "refusal": None}


# -- completions ------------------------------------------------------------------------------


class CompletionAnswer:
    """One completion request's answer; the events of prompt i come with `first` = i * n."""

    def __init__(
        self,
        body: CompletionRequest,
        *,
        answer_id: str,
        created: int,
        model: str,
        fingerprint: str | None = None,
    ) -> None:
        self._body = body
        self._head = {
            "id": answer_id,
            "object": "text_completion",
            "created": created,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        # Characters of each choice so far, which `text_offset` counts.
        self._offsets: dict[int, int] = {}
        self._usage = Usage()
        self._ended = 0

    def chunks(self, event: Event, first: int = 0) -> list[dict[str, Any]]:
        """What a stream says at this event."""
        if isinstance(event, Delta):
            return [self._chunk(self._choice(first + event.index, event, None))]
        if isinstance(event, Finished):
            blank = Delta(event.index, "")
            return [self._chunk(self._choice(first + event.index, blank, _reason(event)))]
        if isinstance(event, Ended):
            self._add(event.usage)
            if self._body.include_usage and self._ended == len(self._body.prompts):
                return [{**self._head, "choices": [], "usage": usage_json(self._usage)}]
        return []

    def whole(self, events: Iterable[tuple[int, Event]]) -> dict[str, Any]:
        """`text_completion` of all events, each with its `first`."""
        texts: dict[int, list[str]] = {}
        logprobs: dict[int, tuple[TokenLogprob, ...]] = {}
        reasons: dict[int, str] = {}
        for first, event in events:
            if isinstance(event, Delta):
                texts.setdefault(first + event.index, []).append(event.text)
                known = logprobs.get(first + event.index, ())
                logprobs[first + event.index] = known + event.logprobs
            elif isinstance(event, Finished):
                reasons[first + event.index] = _reason(event)
            elif isinstance(event, Ended):
                self._add(event.usage)
        choices = [
            {
                "index": index,
                "text": "".join(texts.get(index, [])),
                "logprobs": self._logprobs(index, logprobs.get(index, ())),
                "finish_reason": reason,
            }
            for index, reason in sorted(reasons.items())
        ]
        return {**self._head, "choices": choices, "usage": usage_json(self._usage)}

    def _add(self, usage: Usage) -> None:
        self._ended += 1
        self._usage = Usage(
            self._usage.prompt + usage.prompt,
            self._usage.completion + usage.completion,
            self._usage.cached + usage.cached,
        )

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = {**self._head, "choices": [choice]}
        if self._body.include_usage:
            chunk["usage"] = None
        return chunk

    def _choice(self, index: int, delta: Delta, reason: str | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": self._logprobs(index, delta.logprobs),
            "finish_reason": reason,
        }

    def _logprobs(self, index: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self._body.logprobs is None or not tokens:
            return None
        offset = self._offsets.get(index, 0)
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.token)
        self._offsets[index] = offset
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {text: logprob for text, _raw, logprob in token.top} for token in tokens
            ],
            "text_offset": offsets,
        }


def _reason(event: Finished) -> str:
    return "stop" if event.reason == "cancelled" else event.reason


# -- embeddings -------------------------------------------------------------------------------


def packed_vector(vector: Sequence[float]) -> str:
    """float32, little-endian, in base64: what OpenAI's client asks for by default."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def unpacked_vector(data: str) -> list[float]:
    raw = base64.b64decode(data)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def embeddings_json(
    body: EmbeddingRequest, vectors: Sequence[str], *, tokens: int, model: str
) -> dict[str, Any]:
    """The list that answers `/v1/embeddings`; `vectors` as `packed_vector` makes them.

    Raises InvalidRequest where another number of dimensions was asked for.
    """
    if body.dimensions is not None and vectors:
        found = len(base64.b64decode(vectors[0])) // 4
        if found != body.dimensions:
            raise InvalidRequest(
                f"'{body.model}' makes vectors of {found} dimensions. Leave 'dimensions' out.",
                param="dimensions",
                code="dimensions_unsupported",
            )
    wanted = body.encoding_format or "float"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector if wanted == "base64" else unpacked_vector(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embeddings_answer(body: EmbeddingRequest, made: Embeddings, *, model: str) -> dict[str, Any]:
    """The same from an engine's own vectors."""
    vectors = [packed_vector(vector) for vector in made.vectors]
    return embeddings_json(body, vectors, tokens=made.tokens, model=model)
