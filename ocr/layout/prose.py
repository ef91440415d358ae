"""Telling running text from what stands in rows: forms, tables, receipts.

The boxes alone can't: two columns of prose on one grid of lines look like a table of two columns.
What tells them apart is that prose goes on from line to line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ocr.layout.geometry import Placed

# A line of prose is at least this many times as long as it is high.
_LONG = 5.0
# This share of a column's lines must begin in the middle of a sentence, with a small letter.
_GOES_ON = 0.25
# Where letters have no case, or only capitals are used, lines that fill their column say the same.
_FULL = 0.75
_FULL_CAPITALS = 0.85
# Lines whose middles are this close (in line heights) stand on one base line.
_ALIGNED = 0.2


@dataclass(frozen=True, slots=True)
class Texture:
    """What the lines of one side of a gutter have in common; shares from 0 to 1.

    `length`: the median line's, in heights. `goes_on`: lines that begin with a small letter.
    `caseless`: lines that begin in a script without case. `capitals`: no small letter at all.
    `digits`: of all characters. `full`: how much of the widest lines' width the median line takes.
    """

    count: int
    length: float
    goes_on: float
    caseless: float
    capitals: bool
    digits: float
    full: float

    @property
    def prose(self) -> bool:
        if self.count < 3 or self.length < _LONG or self.digits > 0.3:
            return False
        if self.goes_on >= _GOES_ON:
            return True
        if self.caseless > 0.5:
            return self.full >= _FULL
        return self.capitals and self.count >= 8 and self.full >= _FULL_CAPITALS


def texture(lines: Sequence[Placed]) -> Texture:
    if not lines:
        return Texture(0, 0, 0, 0, False, 0, 0)
    text = "".join(one.line.text for one in lines)
    firsts = [one.line.text[:1] for one in lines]
    widths = sorted(one.width for one in lines)
    wide = widths[int(0.9 * (len(widths) - 1))]
    return Texture(
        count=len(lines),
        length=median(one.width / one.height for one in lines),
        goes_on=sum(first.islower() for first in firsts) / len(lines),
        caseless=sum(f.isalpha() and f.upper() == f.lower() for f in firsts) / len(lines),
        capitals=text == text.upper(),
        digits=sum(map(text.count, "0123456789")) / max(len(text), 1),
        full=median(widths) / max(wide, 1.0),
    )


def columns(left: Sequence[Placed], right: Sequence[Placed]) -> bool:
    """Whether the two sides of a gutter are to be read one after the other, not row by row."""
    one, other = texture(left), texture(right)
    if one.prose and other.prose:
        return True
    if one.prose or other.prose:
        prose, rest = (left, right) if one.prose else (right, left)
        told = other if one.prose else one
        if told.count >= 3 and told.length >= _LONG and told.digits < 0.3:
            return True
        return told.count >= 3 and _aligned(rest, prose) < 0.7
    wordy = min(one.length, other.length) >= _LONG and max(one.digits, other.digits) < 0.2
    return wordy and min(one.count, other.count) >= 4 and _aligned(left, right) < 0.4


def few(lines: Sequence[Placed]) -> bool:
    """Whether lines may be the first or the last few of a column that is known to be one."""
    told = texture(lines)
    return told.count > 0 and told.length >= _LONG / 2 and told.digits < 0.3


def _aligned(lines: Sequence[Placed], others: Sequence[Placed]) -> float:
    """The share of `lines` that have one of `others` on their base line."""
    middles = sorted(one.middle for one in others)
    found = 0
    for one in lines:
        near = bisect_left(middles, one.middle - _ALIGNED * one.height)
        found += near < len(middles) and middles[near] <= one.middle + _ALIGNED * one.height
    return found / len(lines)
