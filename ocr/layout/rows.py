"""Rows of a page: lines that stand side by side, from the top to the bottom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ocr.engines.base import Line
from ocr.layout.geometry import Placed, gap, level, page_skew, place, stacked


@dataclass(slots=True)
class Row:
    """Lines at one height, in no order until the page's last line has its row."""

    members: list[Placed] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return sum(one.middle for one in self.members) / len(self.members)

    def takes(self, other: Placed) -> bool:
        """Whether `other` stands beside the members rather than under them."""
        if any(stacked(member, other) for member in self.members):
            return False
        return level(min(self.members, key=lambda member: gap(member, other)), other)


def rows_of(lines: Iterable[Placed]) -> list[list[Placed]]:
    """Rows from top to bottom, each from left to right."""
    rows: list[Row] = []
    for one in sorted(lines, key=lambda one: one.middle):
        # Only the last few rows can still be level with this line, as lines come from the top.
        row = next((row for row in reversed(rows[-3:]) if row.takes(one)), None)
        if row is None:
            row = Row()
            rows.append(row)
        row.members.append(one)
    rows.sort(key=lambda row: row.middle)
    return [sorted(row.members, key=lambda one: one.left) for row in rows]


def reading_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Rows from top to bottom, and within a row from left to right; robust to a slight skew."""
    lines = tuple(lines)
    skew = page_skew(lines)
    return tuple(one.line for row in rows_of(place(line, skew) for line in lines) for one in row)


def rows_text(lines: Sequence[Line], skew: float | None = None) -> str:
    """The text of lines that are already in reading order, one row of the page a line.

    `skew` in radians; None to take it from these lines.
    """
    if skew is None:
        skew = page_skew(lines)
    parts: list[str] = []
    before: Placed | None = None
    for line in lines:
        placed = place(line, skew)
        if before is not None:
            beside = level(before, placed) and placed.left >= before.left
            parts.append(" " if beside and not stacked(before, placed) else "\n")
        parts.append(line.text)
        before = placed
    return "".join(parts)
