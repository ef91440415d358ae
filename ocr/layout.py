"""Boxes on a page -> blocks in the order in which a person would read them, and the page's text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ocr.engines.base import Line, Polygon

# Lines this far apart (in heights of the lower one) still stand in one row.
_SAME_ROW = 0.5
# Beyond this share of the narrower line, two lines stand one above the other, not side by side.
_STACKED = 0.5
# A page tilted by more is turned, not skewed: taking the tilt out would only shuffle it.
_MOST_SKEW = math.radians(15)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `first` to `end` (exclusive) of a layout, which belong together.

    `level`: of a heading 1 to 3, else 0. `box`: left, top, right, bottom in pixels. `rows`: a
    table's rows of cells, each cell the numbers of its lines.
    """

    kind: Literal["text", "heading", "table"]
    first: int
    end: int
    box: tuple[float, float, float, float]
    level: int = 0
    rows: tuple[tuple[tuple[int, ...], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """A page's lines in reading order, and the blocks that divide them."""

    lines: tuple[Line, ...]
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class _Placed:
    """A line in the page's own axes, the skew taken out."""

    line: Line
    left: float
    right: float
    middle: float
    height: float


@dataclass(slots=True)
class _Row:
    members: list[_Placed] = field(default_factory=list)

    def takes(self, other: _Placed) -> bool:
        """Whether `other` stands beside the members rather than under them."""
        if any(_stacked(member, other) for member in self.members):
            return False
        nearest = min(self.members, key=lambda member: _gap(member, other))
        return _level(nearest, other)


def lay_out(lines: Iterable[Line], width: int, height: int) -> Layout:
    """`lines` in any order, on a page of `width` by `height` pixels."""
    ordered = reading_order(lines)
    if not ordered:
        return Layout((), ())
    xs, ys = zip(*(point for line in ordered for point in line.polygon), strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    return Layout(ordered, (Block("text", 0, len(ordered), box),))


def page_text(layout: Layout) -> str:
    """The page's text in reading order: a row of the page a line."""
    return rows_text(layout.lines)


def reading_order(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Rows from top to bottom, and within a row from left to right; robust to a slight skew."""
    lines = tuple(lines)
    skew = _skew(lines)
    rows: list[_Row] = []
    for placed in sorted((_place(line, skew) for line in lines), key=lambda one: one.middle):
        # Only the last few rows can still be level with this line, as lines come from the top.
        row = next((row for row in reversed(rows[-3:]) if row.takes(placed)), None)
        if row is None:
            row = _Row()
            rows.append(row)
        row.members.append(placed)
    rows.sort(key=lambda row: sum(one.middle for one in row.members) / len(row.members))
    return tuple(one.line for row in rows for one in sorted(row.members, key=lambda one: one.left))


def rows_text(lines: Sequence[Line]) -> str:
    """The text of lines that are already in reading order, one row of the page a line."""
    skew = _skew(lines)
    parts: list[str] = []
    before: _Placed | None = None
    for line in lines:
        placed = _place(line, skew)
        if before is not None:
            beside = _level(before, placed) and placed.left >= before.left
            parts.append(" " if beside and not _stacked(before, placed) else "\n")
        parts.append(line.text)
        before = placed
    return "".join(parts)


def _place(line: Line, skew: float) -> _Placed:
    cos, sin = math.cos(skew), math.sin(skew)
    xs = [x * cos + y * sin for x, y in line.polygon]
    ys = [y * cos - x * sin for x, y in line.polygon]
    return _Placed(line, min(xs), max(xs), (min(ys) + max(ys)) / 2, max(max(ys) - min(ys), 1.0))


def _level(one: _Placed, other: _Placed) -> bool:
    """Whether two lines stand at one height, judged by the lower (less tall) of the two."""
    return abs(one.middle - other.middle) < _SAME_ROW * min(one.height, other.height)


def _stacked(one: _Placed, other: _Placed) -> bool:
    shared = min(one.right, other.right) - max(one.left, other.left)
    return shared > _STACKED * max(min(one.right - one.left, other.right - other.left), 1.0)


def _gap(one: _Placed, other: _Placed) -> float:
    return max(one.left - other.right, other.left - one.right, 0.0)


def _skew(lines: Sequence[Line]) -> float:
    """The tilt of the page in radians: the median tilt of its lines, each weighted by length.

    Short boxes tell nothing about the tilt (a pixel more or less on one corner tilts them), and
    the weight keeps them from having a say.
    """
    tilts = sorted(filter(None, (_tilt(line.polygon) for line in lines)))
    half = sum(length for _, length in tilts) / 2
    for tilt, length in tilts:
        half -= length
        if half <= 0:
            return tilt if abs(tilt) <= _MOST_SKEW else 0.0
    return 0.0


def _tilt(polygon: Polygon) -> tuple[float, float] | None:
    """(angle, length) of the upper edge, or None for a box too short to have a direction."""
    (x0, y0), (x1, y1) = polygon[0], polygon[1]
    (x3, y3) = polygon[-1]
    length, height = math.hypot(x1 - x0, y1 - y0), math.hypot(x3 - x0, y3 - y0)
    if length < 3 * height or x1 <= x0:
        return None
    return math.atan2(y1 - y0, x1 - x0), length
