"""Entries of a reply stream: JSON of `[request, attempt, number, events]` items.

`number` is how many events of this attempt went before, so that a reader sees a gap where entries
were lost and leaves out what it has read already. No events: the request is alive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llm.engines.base import Delta, Ended, Event, Failed, Finished, TokenLogprob, Usage


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has the model in memory and hands the request to it."""

    tool_format: str


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings: little-endian float32 in base64, one string a text."""

    data: tuple[str, ...]
    tokens: int


Message = Begun | Vectors | Event


@dataclass(frozen=True, slots=True)
class Item:
    """What one request has to say in one entry."""

    request: str
    attempt: int
    number: int
    messages: Sequence[Message]


def pack(items: Iterable[Item]) -> str:
    return json.dumps(
        [
            [item.request, item.attempt, item.number, [_packed(m) for m in item.messages]]
            for item in items
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def unpack(entry: str | bytes) -> list[Item]:
    return [
        Item(request, attempt, number, [_unpacked(m) for m in messages])
        for request, attempt, number, messages in json.loads(entry)
    ]


def merged(messages: Iterable[Message]) -> list[Message]:
    """The same with neighbouring deltas of one answer made into one."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        if isinstance(message, Delta) and isinstance(last, Delta) and message.index == last.index:
            text, logprobs = last.text + message.text, last.logprobs + message.logprobs
            out[-1] = Delta(message.index, text, logprobs)
        else:
            out.append(message)
    return out


def _packed(message: Message) -> list[Any]:
    match message:
        case Delta(index, text, ()):
            return ["d", index, text]
        case Delta(index, text, logprobs):
            return ["d", index, text, [_packed_logprob(one) for one in logprobs]]
        case Finished(index, reason, stop):
            return ["f", index, reason, stop]
        case Ended(usage):
            return ["e", usage.prompt, usage.completion, usage.cached]
        case Failed(text, code, param, status):
            return ["x", text, code, param, status]
        case Begun(tool_format):
            return ["b", tool_format]
        case Vectors(data, tokens):
            return ["v", data, tokens]


def _unpacked(packed: list[Any]) -> Message:
    match packed:
        case ["d", index, text]:
            return Delta(index, text)
        case ["d", index, text, logprobs]:
            return Delta(index, text, tuple(_unpacked_logprob(one) for one in logprobs))
        case ["f", index, reason, stop]:
            return Finished(index, reason, stop)
        case ["e", prompt, completion, cached]:
            return Ended(Usage(prompt, completion, cached))
        case ["x", text, code, param, status]:
            return Failed(text, code, param, status)
        case ["b", tool_format]:
            return Begun(tool_format)
        case ["v", data, tokens]:
            return Vectors(tuple(data), tokens)
    raise ValueError(f"A reply stream holds what this version doesn't know: {packed[:1]}")


def _packed_logprob(one: TokenLogprob) -> list[Any]:
    top = [[token, raw.hex(), logprob] for token, raw, logprob in one.top]
    return [one.token, one.bytes.hex(), one.logprob, top]


def _unpacked_logprob(packed: list[Any]) -> TokenLogprob:
    token, raw, logprob, top = packed
    return TokenLogprob(
        token,
        bytes.fromhex(raw),
        logprob,
        tuple((each, bytes.fromhex(hexed), value) for each, hexed, value in top),
    )
