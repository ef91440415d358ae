"""Checkpoints on a trainer's disk: which of them are whole."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

# Written last, with the size and hash of every other file: a checkpoint without it is torn.
COMPLETE = "complete.json"
PIECE = 1024 * 1024


def complete(folder: Path) -> None:
    """Says that the checkpoint is whole, once its bytes are on the disk."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != COMPLETE:
            found[path.relative_to(folder).as_posix()] = _measured(path)
    unfinished = folder / f"{COMPLETE}.part"
    unfinished.write_text(json.dumps(found))
    unfinished.rename(folder / COMPLETE)


def _measured(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
        os.fsync(file.fileno())
    return size, digest.hexdigest()
