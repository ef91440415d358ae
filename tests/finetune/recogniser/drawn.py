"""Lines drawn in the font inside Pillow, as rows of a training."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from finetune.engines.base import RESULT, Event, TrainSpec

# Without what this font tells from others by a hair.
LETTERS = "0123456789ABCEHT"


class Heard:
    """A teller that keeps what it is told; `stop_at`: asks to stop once this step is told of."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list[Event] = []
        self._stop_at = stop_at

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def asked_to_stop(self) -> bool:
        steps = [getattr(event, "step", 0) for event in self.events]
        return self._stop_at is not None and max(steps, default=0) >= self._stop_at

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


def spaced(text: str) -> str:
    """As it is drawn: this font's own space is hardly wider than what stands between letters."""
    return text.replace(" ", "  ")


def line(text: str, random: Random) -> np.ndarray:
    """Grey uint8, cut out as a detector would."""
    text = spaced(text)
    size = random.choice((20, 24, 30))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    around = [random.randint(1, size // 4) for _ in range(4)]
    image = Image.new(
        "L", (int(right - left) + around[0] + around[1], int(bottom - top) + sum(around[2:])), 255
    )
    corner = (around[0] - left, around[2] - top)
    ImageDraw.Draw(image).text(corner, text, font=font, fill=random.randint(0, 80))
    return np.asarray(image)


def words(random: Random, letters: str = LETTERS) -> str:
    return " ".join(
        "".join(random.choices(letters, k=random.randint(2, 5)))
        for _ in range(random.choice((1, 2)))
    )


def rows_write(work: Path, split: str, texts: Sequence[str], *, seed: int) -> None:
    """<work>/rows/<split>.jsonl with its pictures."""
    random = Random(seed)
    for name in ("rows", "images"):
        (work / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, text in enumerate(texts):
        picture = line(text or "-", random)
        name = f"images/{split}-{number}.png"
        Image.fromarray(picture).save(work / name)
        height, width = picture.shape
        rows.append({"text": text, "image": name, "width": width, "height": height})
    written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (work / "rows" / f"{split}.jsonl").write_text(written, encoding="utf-8")


def spec_of(work: Path, **options: object) -> TrainSpec:
    given = {"channels": 16, "hidden": 48, "device": "cpu", "max_width": 256}
    return TrainSpec(method="ocr-recognition", options=given | options, folder=str(work))


@cache
def trained() -> tuple[Path, Heard]:
    """A training of a recogniser of LETTERS that went to its end: its folder, what it told."""
    from finetune.engines.ocr_recognition import train

    ready()
    work = Path(tempfile.mkdtemp(prefix="letters-", dir=os.environ["DATA_DIR"]))
    random = Random(1)
    rows_write(work, "train", [words(random) for _ in range(500)], seed=1)
    rows_write(work, "validation", [words(random) for _ in range(80)], seed=2)
    heard = Heard()
    train(spec_of(work, epochs=18, learning_rate=0.006, log_steps=25), heard)
    return work, heard


def trained_folder() -> Path:
    """What engines read with."""
    return trained()[0] / RESULT


def ready() -> None:
    """One thread: more gain nothing on lines so small, and less on a machine that is busy."""
    from ocr.engines.torch_library import import_torch

    import_torch().set_num_threads(1)
