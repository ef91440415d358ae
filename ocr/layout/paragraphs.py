"""The rows of one column divided into headings and paragraphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ocr.layout.geometry import Placed, Scale

PlacedRow = Sequence[Placed]

# A heading of level 1, 2, 3 is at least so many times as high as the body text. An engine's boxes
# of one font size differ by up to a fifth.
_LEVELS = (1.8, 1.45, 1.27)
_ALIKE = 1.25
_HEADING_ROWS = 3
_HEADING_LENGTH = 120
# Rows further apart than this many times the usual step begin a paragraph.
_APART = 1.4
# So far set in (in heights of the body text), a row begins a paragraph.
_INDENT = 0.6
_SAME_EDGE = 0.4


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Rows that belong together; `level` 1 to 3 of a heading, else 0."""

    rows: tuple[PlacedRow, ...]
    level: int = 0


def paragraphs_in(rows: Sequence[PlacedRow], scale: Scale) -> Iterator[Paragraph]:
    """What the rows of one column are divided into, from the top."""
    levels = [_level(_height(row) / scale.body) for row in rows]
    start = 0
    for end in range(1, len(rows) + 1):
        both = end < len(rows) and bool(levels[end]) == bool(levels[start])
        if both and (not levels[start] or _goes_on(rows[end - 1], rows[end])):
            continue
        run = rows[start:end]
        if run and levels[start] and _is_heading(run):
            yield Paragraph(tuple(run), levels[start])
        elif run:
            yield from map(Paragraph, _by_gaps(run, scale))
        start = end


def one_heading(first: Paragraph, second: Paragraph) -> bool:
    """Whether the second goes on with the heading that the first begins.

    A headline's last line may be short enough to stand in a column of its own.
    """
    return (
        bool(first.level and second.level)
        and len(first.rows) + len(second.rows) <= _HEADING_ROWS
        and _goes_on(first.rows[-1], second.rows[0])
    )


def _goes_on(upper: PlacedRow, lower: PlacedRow) -> bool:
    """Whether two rows of a heading are one's: close together, and alike in height."""
    one, other = _height(upper), _height(lower)
    near = 0 < _middle(lower) - _middle(upper) < 2 * max(one, other)
    return near and 1 / _ALIKE < other / one < _ALIKE


def _height(row: PlacedRow) -> float:
    return median(one.height for one in row)


def _level(height: float) -> int:
    return next((level for level, least in enumerate(_LEVELS, 1) if height >= least), 0)


def _is_heading(rows: Sequence[PlacedRow]) -> bool:
    text = "".join(one.line.text for row in rows for one in row)
    letters = sum(character.isalpha() for character in text)
    return (
        len(rows) <= _HEADING_ROWS
        and len(text) <= _HEADING_LENGTH
        and letters > 1
        and 2 * letters > len(text)
        and all(len(row) == 1 for row in rows)
    )


def _by_gaps(rows: Sequence[PlacedRow], scale: Scale) -> Iterator[tuple[PlacedRow, ...]]:
    """Text divided where the rows stand further apart or one is set in."""
    steps = [_middle(lower) - _middle(upper) for upper, lower in pairwise(rows)]
    usual = median(steps) if len(steps) > 2 else scale.pitch
    start = 0
    for end in range(1, len(rows)):
        if steps[end - 1] > _APART * usual or _set_in(rows, end, scale.body):
            yield tuple(rows[start:end])
            start = end
    yield tuple(rows[start:])


def _set_in(rows: Sequence[PlacedRow], number: int, body: float) -> bool:
    """Whether a row is set in between two that begin at one edge."""
    if number + 1 == len(rows):
        return False
    before, here, after = (row[0].left for row in rows[number - 1 : number + 2])
    return abs(before - after) < _SAME_EDGE * body and here - max(before, after) > _INDENT * body


def _middle(row: PlacedRow) -> float:
    return sum(one.middle for one in row) / len(row)
