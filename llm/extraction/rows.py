"""Lines that stand side by side, put together again: a label and its value are often two boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm.extraction.base import PageText, TextLine

# Of the lower line's height: so much of it must stand beside the other.
OVERLAP = 0.5
# Of a line's height: words stand closer than this, columns do not.
COLUMN_GAP = 1.5


@dataclass(frozen=True, slots=True)
class Row:
    """Lines of one height, from left to right; `number` counts the page's rows from the top."""

    page: int
    number: int
    lines: tuple[TextLine, ...]

    @property
    def text(self) -> str:
        return " ".join(line.text for line in self.lines)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        boxes = [line.box for line in self.lines]
        lefts, tops, rights, lows = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(lows)

    def segments(self) -> list[Row]:
        """The parts of the row between which is more room than between words."""
        parts: list[list[TextLine]] = []
        for line in self.lines:
            height = line.box[3] - line.box[1]
            if parts and line.box[0] - parts[-1][-1].box[2] <= COLUMN_GAP * height:
                parts[-1].append(line)
            else:
                parts.append([line])
        return [Row(self.page, self.number, tuple(part)) for part in parts]


def rows_of(page: PageText) -> list[Row]:
    """The page's rows from top to bottom; works on pages that lean a little, too."""
    open_rows: list[list[TextLine]] = []
    for line in sorted(page.lines, key=lambda line: (_middle(line), line.box[0])):
        row = max(open_rows[-6:], key=lambda row: _beside(row, line), default=None)
        if row is not None and _beside(row, line) >= OVERLAP:
            row.append(line)
        else:
            open_rows.append([line])
    for row in open_rows:
        row.sort(key=lambda line: line.box[0])
    open_rows.sort(key=lambda row: sum(map(_middle, row)) / len(row))
    return [Row(page.number, number, tuple(row)) for number, row in enumerate(open_rows)]


def _middle(line: TextLine) -> float:
    _left, top, _right, low = line.box
    return (top + low) / 2


def _beside(row: Sequence[TextLine], line: TextLine) -> float:
    """The share of the lower one's height that it has in common with the row's nearest line.

    0 for lines that stand below one another.
    """
    left, top, right, low = line.box
    nearest = min(row, key=lambda other: min(abs(other.box[2] - left), abs(right - other.box[0])))
    if any(
        min(right, other.box[2]) - max(left, other.box[0]) > (right - left) / 3 for other in row
    ):
        return 0.0
    _left, other_top, _right, other_low = nearest.box
    shared = min(low, other_low) - max(top, other_top)
    return shared / max(1.0, min(low - top, other_low - other_top))
