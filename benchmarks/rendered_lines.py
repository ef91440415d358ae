"""Lines drawn in whatever fonts the machine has, as rows of a training."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARKS = "-./:#&()*+,'"


def fonts() -> list[str]:
    """Files of fonts with Latin letters; none where fontconfig isn't there."""
    if shutil.which("fc-list") is None:
        return []
    listed = subprocess.run(
        ["fc-list", ":lang=en", "file"], capture_output=True, text=True, check=True
    )
    files = [line.strip().rstrip(":") for line in listed.stdout.splitlines()]
    return sorted(file for file in files if file.endswith((".ttf", ".otf")))


def made_up(random: Random, words: Sequence[str], letters: str) -> str:
    """As on a receipt: words, prices, dates, numbers of articles."""
    parts = []
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        kind = random.random()
        if kind < 0.4:
            parts.append(random.choice(words))
        elif kind < 0.6:
            parts.append(f"{random.choice(('', 'RM', 'RM ', '$'))}{random.uniform(0, 999):.2f}")
        elif kind < 0.75:
            parts.append("".join(random.choices("0123456789", k=random.randint(1, 10))))
        elif kind < 0.85:
            day, month, year = random.randint(1, 31), random.randint(1, 12), random.randint(10, 29)
            parts.append(random.choice("/-.").join((f"{day:02}", f"{month:02}", f"20{year}")))
        else:
            parts.append("".join(random.choices(letters, k=random.randint(2, 8))))
    text = " ".join(parts)
    if random.random() < 0.2:
        place = random.randint(0, len(text))
        text = text[:place] + random.choice(MARKS) + text[place:]
    return " ".join("".join(one for one in text if one in letters).split()) or random.choice(words)


def drawn(text: str, random: Random, files: Sequence[str]) -> Image.Image:
    """Black on white, cut close, as a box around a line is."""
    size = random.randint(14, 40)
    font = ImageFont.truetype(random.choice(files), size) if files else ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    around = [random.randint(0, max(1, size // 5)) for _ in range(4)]
    width = max(1, int(right - left)) + around[0] + around[1]
    height = max(1, int(bottom - top)) + around[2] + around[3]
    image = Image.new("L", (width, height), random.randint(220, 255))
    corner = (around[0] - left, around[2] - top)
    ImageDraw.Draw(image).text(corner, text, font=font, fill=random.randint(0, 110))
    return image


def rows_draw(
    work: Path, split: str, count: int, *, words: Sequence[str], letters: str, seed: int
) -> None:
    """<work>/rows/<split>.jsonl and its pictures."""
    random, files = Random(seed), fonts()
    texts = [made_up(random, words, letters) for _ in range(count)]
    rows_write(work, split, [(text, np.asarray(drawn(text, random, files))) for text in texts])


def rows_write(work: Path, split: str, lines: Sequence[tuple[str, np.ndarray]]) -> None:
    """Texts with their pictures, grey uint8, as a training wants them."""
    for folder in ("rows", "images"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    with (work / "rows" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for number, (text, picture) in enumerate(lines):
            name = f"images/{split}-{number}.png"
            Image.fromarray(picture).save(work / name)
            height, width = picture.shape
            row = {"text": text, "image": name, "width": width, "height": height}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
