"""What the canonical rows of each kind hold, and how they are looked at.

    chat        {"messages": [{"role", "content", "tool_calls"?…}, …], "tools"?: […]}
    completion  {"prompt": str, "completion": str}, trained on without a template
    text        {"text": str}
    preference  {"prompt": [message, …], "chosen": [message, …], "rejected": [message, …], "tools"?}
    ocr         {"text": str, "image": base64, "media_type", "width", "height"}

Any row may hold "group" (rows of one group share a split) and "meta" (where it comes from).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from finetune.formats.base import Row
from finetune.formats.messages import Message


class View(NamedTuple):
    """A row as checks see it: what is asked, what is to be learned, and what holds it together.

    `group` is the text that rows of one group share where nobody names groups: how a conversation
    begins, so that the same prompt never stands in two splits.
    """

    prompt: str
    answer: str
    group: str


def view_of(kind: str, row: Row) -> View:
    return _VIEWS[kind](row)


def spoken(message: Message) -> str:
    """A message as text, its calls of tools included."""
    calls = message.get("tool_calls")
    if not calls:
        return message["content"]
    called = json.dumps([call["function"] for call in calls], ensure_ascii=False)
    return f"{message['content']}\n{called}"


def _joined(messages: list[Message]) -> str:
    return "\n".join([f"{message['role']}: {spoken(message)}" for message in messages])


def _opening(messages: list[Message]) -> str:
    """The system message and the user's first."""
    end = 2 if messages[0]["role"] == "system" else 1
    return _joined(messages[:end])


def _chat(row: Row) -> View:
    messages = row["messages"]
    prompt = _joined(messages[:-1])
    group = prompt if len(messages) <= 2 else _opening(messages)
    return View(prompt, spoken(messages[-1]), group)


def _completion(row: Row) -> View:
    return View(row["prompt"], row["completion"], row["prompt"])


def _text(row: Row) -> View:
    return View(row["text"], "", row["text"])


def _preference(row: Row) -> View:
    asked = row["prompt"]
    answers = f"{_joined(row['chosen'])}\n{_joined(row['rejected'])}"
    return View(_joined(asked), answers, _opening(asked))


def _ocr(row: Row) -> View:
    return View(row["image"], row["text"], row["image"])


_VIEWS = {
    "chat": _chat,
    "completion": _completion,
    "text": _text,
    "preference": _preference,
    "ocr": _ocr,
}


def texts_of(kind: str, row: Row) -> Iterator[tuple[str, str]]:
    """(field, text) of everything in the row that people wrote; pictures are left out."""
    if kind == "ocr":
        yield "text", row["text"]
        return
    for field in ("messages", "prompt", "completion", "text", "chosen", "rejected"):
        value: Any = row.get(field)
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, list):
            for n, message in enumerate(value):
                yield f"{field}[{n}].content", spoken(message)
