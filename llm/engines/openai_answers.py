"""Chunks of an OpenAI-compatible server as events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm.engines.base import (
    Delta,
    Embeddings,
    Ended,
    Event,
    Finished,
    FinishReason,
    TokenLogprob,
    Usage,
)

# Calls that a server has parsed are written as text again, in the form that is read everywhere.
TOOL_FORMAT = "hermes"
_CALL_BEGIN, _CALL_END = "<tool_call>\n", "\n</tool_call>"

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    # What the server took away, its text does not show.
    "content_filter": "stop",
}


class Garbage(Exception):
    """What came is of another form than the API's."""


class AnswerReader:
    """One request's chunks, in order; `prompt_tokens` stands in where a server counts nothing."""

    def __init__(self, n: int, *, prompt_tokens: int) -> None:
        self.begun = False
        self._open: set[int] = set(range(n))
        # The call that each answer is in the middle of, by its place in the answer.
        self._calls: dict[int, int] = {}
        self._arguments: dict[int, bool] = {}
        self._usage: Usage | None = None
        self._prompt_tokens = prompt_tokens
        self._chunks = 0

    def read(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Raises Garbage."""
        try:
            if usage := chunk.get("usage"):
                self._usage = _usage(usage)
            events: list[Event] = []
            for choice in chunk["choices"]:
                events += self._choice(choice)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise Garbage(f"{error!r} in {json.dumps(chunk)[:200]}") from error
        self.begun = self.begun or bool(events)
        return events

    def end(self) -> list[Event]:
        """After the last chunk. Raises Garbage where answers are missing."""
        if self._open:
            raise Garbage(f"the stream ended without the end of {len(self._open)} of its answers")
        return [Ended(self.usage)]

    def cancelled(self) -> list[Event]:
        ends = [Finished(index, "cancelled") for index in sorted(self._open)]
        return [*ends, Ended(self.usage)]

    @property
    def usage(self) -> Usage:
        # A chunk holds a token as a rule.
        return self._usage or Usage(self._prompt_tokens, self._chunks)

    def _choice(self, choice: Mapping[str, Any]) -> list[Event]:
        index = int(choice.get("index") or 0)
        events: list[Event] = []
        if "text" in choice:
            text, logprobs = choice["text"] or "", _completion_logprobs(choice.get("logprobs"))
        else:
            delta = choice.get("delta") or {}
            text, logprobs = delta.get("content") or "", _chat_logprobs(choice.get("logprobs"))
            for call in delta.get("tool_calls") or ():
                text += self._call(index, call)
        reason = choice.get("finish_reason")
        if reason:
            text += self._end_call(index)
        if not isinstance(text, str):
            raise TypeError("text that is none")
        if text or logprobs:
            self._chunks += 1
            events.append(Delta(index, text, logprobs))
        if reason and index in self._open:
            self._open.remove(index)
            stop = choice.get("stop_reason")
            events.append(
                Finished(
                    index, _REASONS.get(reason, "stop"), stop if isinstance(stop, str) else None
                )
            )
        return events

    def _call(self, index: int, call: Mapping[str, Any]) -> str:
        """A piece of a call as text: name and arguments come apart, and calls one after another."""
        text, function = "", call.get("function") or {}
        place = int(call.get("index") or 0)
        if self._calls.get(index) != place:
            text = self._end_call(index)
            self._calls[index] = place
            self._arguments[index] = False
            text += f'{_CALL_BEGIN}{{"name": {json.dumps(function["name"])}, "arguments": '
        if arguments := function.get("arguments"):
            self._arguments[index] = True
            text += arguments if isinstance(arguments, str) else json.dumps(arguments)
        return text

    def _end_call(self, index: int) -> str:
        if self._calls.pop(index, None) is None:
            return ""
        return ("" if self._arguments.pop(index) else "{}") + "}" + _CALL_END


def embeddings(answer: Mapping[str, Any], count: int) -> Embeddings:
    """The vectors in the order of the texts, brought to unit length. Raises Garbage."""
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = tuple(_unit(row["embedding"]) for row in rows)
        tokens = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Garbage(f"{error!r} in {json.dumps(answer)[:200]}") from error
    if len(vectors) != count:
        raise Garbage(f"{len(vectors)} vectors for {count} texts")
    return Embeddings(vectors, tokens)


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = sum(value * value for value in vector) ** 0.5
    if not length > 0:
        raise ValueError("a vector without a direction")
    return tuple(value / length for value in vector)


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt=int(usage.get("prompt_tokens") or 0),
        completion=int(usage.get("completion_tokens") or 0),
        cached=int(details.get("cached_tokens") or 0),
    )


def _chat_logprobs(logprobs: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=entry["token"],
            bytes=_bytes(entry),
            logprob=float(entry["logprob"]),
            top=tuple(
                (one["token"], _bytes(one), float(one["logprob"]))
                for one in entry.get("top_logprobs") or ()
            ),
        )
        for entry in (logprobs or {}).get("content") or ()
    )


def _completion_logprobs(logprobs: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...]:
    if not logprobs:
        return ()
    tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
    entries = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
    return tuple(
        TokenLogprob(
            token=token,
            bytes=token.encode(),
            # The first token of an echoed prompt has none.
            logprob=float(logprob or 0.0),
            top=tuple((one, one.encode(), float(value)) for one, value in (top or {}).items()),
        )
        for token, logprob, top in entries
    )


def _bytes(entry: Mapping[str, Any]) -> bytes:
    given = entry.get("bytes")
    return bytes(given) if given is not None else entry["token"].encode()
