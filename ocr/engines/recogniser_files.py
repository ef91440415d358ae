"""What a training of a recogniser leaves in a folder, as engines find it there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlops.exceptions import EngineUnavailable

NAME = "recogniser"
# Versions of the folder's form that can be read.
FORMATS = (1,)


@dataclass(frozen=True, slots=True)
class RecogniserFiles:
    """`recogniser.json`, read. `height` and `most_width` of lines in pixels; `width_step`: they are
    filled up to multiples of it."""

    folder: Path
    characters: str
    languages: frozenset[str]
    height: int
    most_width: int
    width_step: int

    @property
    def network(self) -> Path:
        return self.folder / f"{NAME}.onnx"


def recogniser_files(folder: Path, *, engine: str) -> RecogniserFiles:
    """Looks in `folder` and below it, as MLflow puts a model's files into folders of its own.

    Raises EngineUnavailable, naming the engine, where it is no recogniser's folder.
    """
    described = next(iter(sorted(folder.rglob(f"{NAME}.json"))), None)
    if described is None:
        raise EngineUnavailable(
            f"The {engine} engine finds no {NAME}.json in {folder}: give the folder that a "
            "training of method ocr-recognition has left."
        )
    found = json.loads(described.read_text(encoding="utf-8"))
    if found["format"] not in FORMATS:
        raise EngineUnavailable(
            f"{described} is of form {found['format']}, and this release reads "
            f"{', '.join(map(str, FORMATS))}: update the platform, or train it anew."
        )
    return RecogniserFiles(
        folder=described.parent,
        characters=found["characters"],
        languages=frozenset(found["languages"]),
        height=found["height"],
        most_width=found["most_width"],
        width_step=found["width_step"],
    )
