"""Two texts of a line, word by word."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from rapidfuzz.distance import Indel


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that stand in both texts ("same"), or only before ("gone") or after ("new")."""

    kind: str
    text: str


def differences(before: str, after: str) -> list[Piece]:
    """Down both texts: with the `new` pieces left out it is `before`, without the `gone` `after`.

    As many words as possible are the same in both.
    """
    ours, theirs = before.split(), after.split()
    pieces: list[Piece] = []
    for same, run in groupby(Indel.opcodes(ours, theirs), key=lambda one: one.tag == "equal"):
        steps = list(run)
        gone = " ".join(ours[steps[0].src_start : steps[-1].src_end])
        new = " ".join(theirs[steps[0].dest_start : steps[-1].dest_end])
        if same:
            pieces.append(Piece("same", gone))
        else:
            pieces += [Piece("gone", gone)] if gone else []
            pieces += [Piece("new", new)] if new else []
    return pieces
