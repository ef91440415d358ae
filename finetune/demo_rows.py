"""A small made-up dataset that a tiny model can learn: tickets as people write them, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from llm.tiny.lessons import CITIES, NAMES

ROWS = 480
# Of these nobody wrote an answer: the report finds them.
UNANSWERED = (17, 203, 388)


def tickets(count: int = ROWS, *, seed: int = 7) -> list[dict[str, Any]]:
    """Conversations of one question each, all different."""
    random, seen = Random(seed), set[str]()
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        name, city, seat = random.choice(NAMES), random.choice(CITIES), random.randint(10, 99)
        asked = f"Ticket: {city}, seat {seat}, {name}"
        if asked in seen:
            continue
        seen.add(asked)
        answer = json.dumps({"passenger": name, "to": city, "seat": seat})
        rows.append(_row(asked, "" if len(rows) in UNANSWERED else answer))
    return rows


def _row(asked: str, answer: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def tickets_write(path: Path) -> Path:
    lines = (json.dumps(row, ensure_ascii=False) for row in tickets())
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
