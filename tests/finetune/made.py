"""Made-up rows and files of every format."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

CITIES = ("Seoul", "Lisbon", "Oslo", "Quito", "Hanoi", "Accra", "Turin", "Perth")


def chat(asked: str, answered: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": messages, **more}


def chats(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Conversations that differ from each other."""
    return [
        chat(
            f"How far is it from {CITIES[n % 8]} to stop {n}?",
            f"It takes {n + 3} minutes by the tram that leaves at {n % 24}:15.",
        )
        for n in range(first, first + count)
    ]


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """JSON lines; a row that is a string is written as it is."""
    texts = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def picture(text: str, kind: str = "PNG") -> bytes:
    image = Image.new("RGB", (12 * max(4, len(text)), 32), "white")
    ImageDraw.Draw(image).text((4, 6), text, font=ImageFont.load_default(18), fill="black")
    target = BytesIO()
    image.save(target, kind)
    return target.getvalue()


def write_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


ROOMS = (
    ("the map room", "지도실"),
    ("the newspaper archive", "신문 보관실"),
    ("the reading room", "열람실"),
    ("the children's corner", "어린이 자료실"),
    ("the music library", "음악 자료실"),
)


def library_rows(count: int) -> list[Any]:
    """Questions to a library, a third of them Korean, with the mistakes that people make."""
    rows: list[Any] = []
    chance = random.Random(5)
    for n in range(count):
        room, name = ROOMS[n % 5]
        shelf = f"K-{1000 + n}"
        if n % 3 == 2:
            asked = f"{name}에서 청구 기호 {shelf} 자료를 어떻게 신청하나요?"
            answered = f"{name} 창구에 신청서를 내시면 {5 + n % 20}분 안에 자리로 가져다 드립니다."
        else:
            asked = f"How do I ask for item {shelf} in {room}?"
            answered = (
                f"Write {shelf} on a slip and hand it in at the desk of {room}; it is brought to "
                f"your seat within {5 + n % 20} minutes."
            )
        # Most answers are short, a few long.
        details = " Slips are taken until half past three." * min(14, int(chance.expovariate(0.4)))
        system = {"role": "system", "content": "You answer for the Harbour Lane Library."}
        rows.append(chat(asked, answered + details))
        if n % 6 == 0:
            rows[-1]["messages"].insert(0, system)
    for n in range(17, count, 97):
        rows[n]["messages"][-1]["content"] = ""
    for n in range(40, count, 211):
        rows[n] = rows[n - 1]
    for n in range(30, count, 307):
        rows[n]["messages"][-1]["role"] = "librarian"
    for n in range(77, count, 401):
        rows[n] = json.dumps(rows[n])[:-30]
    for n in range(92, count, 333):
        if isinstance(rows[n], dict):
            damaged = "신청서를".encode().decode("cp1252", "ignore")
            rows[n]["messages"][-1]["content"] += f" ({damaged})"
    for n in range(120, count, 501):
        rows[n] = chat(f"How do I ask for item K-{1000 + n - 2} in the map room?", "Ask the desk.")
    return rows
