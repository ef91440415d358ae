"""What a model is told: the text with numbered lines, the schema, and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm.extraction.base import PageText, Task

SYSTEM = (
    "You take values out of the text of a document that was read by OCR. Answer with one JSON "
    "object that follows the schema, and nothing else. Copy values from the text; what the text "
    "does not say is null, or left out where null is not allowed. Never guess. Each line of the "
    "text begins with its number and a bar, which are no part of it."
)


def page_lines(pages: Sequence[PageText]) -> list[str]:
    """The text in reading order, each line behind its number; pages are named where they begin."""
    lines, number = [], 0
    for page in pages:
        if len(pages) > 1:
            lines.append(f"--- page {page.number} ---")
        for line in page.lines:
            number += 1
            lines.append(f"{number}| {line.text}")
    return lines


def messages(text: str, task: Task, *, mistake: str = "") -> list[dict[str, str]]:
    """The chat that asks for the values; `mistake`: what was wrong with the answer before."""
    system = f"{SYSTEM}\n\n{task.instructions}".strip()
    system += f"\n\nSchema:\n{compact(task.schema)}"
    chat = [{"role": "system", "content": system}]
    for example in task.examples:
        shown = "\n".join(
            f"{number}| {line}" for number, line in enumerate(str(example["text"]).splitlines(), 1)
        )
        chat += [
            {"role": "user", "content": shown},
            {"role": "assistant", "content": compact(example["values"])},
        ]
    if mistake:
        text = f"{text}\n\nAn earlier answer was refused: {mistake}"
    return [*chat, {"role": "user", "content": text}]


def compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
