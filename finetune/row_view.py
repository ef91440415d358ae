"""A row as people read it: who says what, in parts."""

from __future__ import annotations

from typing import NamedTuple

from finetune.formats.base import Row
from finetune.formats.kinds import spoken
from finetune.formats.messages import Message

# Longer texts are cut off on the page; the download has all of it.
LONGEST = 4000


class Part(NamedTuple):
    """`role` is what it is, `target` whether it is what a model is to learn."""

    role: str
    text: str
    target: bool


def row_parts(kind: str, row: Row) -> list[Part]:
    if kind == "chat":
        parts = _said(row["messages"])
    elif kind == "preference":
        parts = _said(row["prompt"])
        parts += [Part("chosen", one.text, True) for one in _said(row["chosen"])]
        parts += [Part("rejected", one.text, False) for one in _said(row["rejected"])]
    elif kind == "completion":
        prompt, completion = row["prompt"], row["completion"]
        parts = [Part("prompt", prompt, False), Part("completion", completion, True)]
    else:
        parts = [Part("text", row["text"], True)]
    return [part._replace(text=_cut(part.text)) for part in parts]


def _said(messages: list[Message]) -> list[Part]:
    return [
        Part(message["role"], spoken(message), message["role"] == "assistant")
        for message in messages
    ]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
