"""Boxes that a detector drew across a gutter, where the gutter is narrow: found and cut in two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ocr.engines.base import Line, Polygon
from ocr.layout.geometry import Placed, Scale, between, place

# In units of the body text's height or of the pitch from line to line.
_TALL = 1.4
_NEXT = 1.4
_NEAR = 1.5
# A run of more than this many boxes with plain columns at one end, or none, may as well be a
# paragraph over them: then most must have a space very near to the gutter.
_FEW = 4
_SURE, _VERY_NEAR, _CLOSEST = 0.7, 0.8, 0.5
# How wide characters are beside others, where the engine does not tell where a word stands: about
# what common serif and sans serif faces have in common.
_WIDTHS = {
    **dict.fromkeys("ijl.,;:!'|`", 0.55),
    **dict.fromkeys('frt()[]-I "/', 0.7),
    **dict.fromkeys("acesz?", 0.92),
    **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ&", 1.35),
    **dict.fromkeys("mwMW@%", 1.65),
}


@dataclass(frozen=True, slots=True)
class Gutter:
    """Where the column on a gutter's right begins.

    `known`: text stands on both sides of it elsewhere on the page. `bridged`: and there, too, boxes
    lie across it.
    """

    x: float
    known: bool = False
    bridged: bool = False


def halves(
    crossing: Sequence[Placed],
    left: Sequence[Placed],
    right: Sequence[Placed],
    gutter: Gutter,
    scale: Scale,
) -> dict[int, tuple[Placed, Placed]]:
    """The two halves of each of `crossing` that is two columns' lines in one box, by its id.

    Such a box is as high as the body text and follows, at the pitch of the text, on lines that end
    before the gutter and on others that begin after it, above or below; a headline or a caption
    stands apart from them.
    """
    x, body, pitch = gutter.x, scale.body, scale.pitch
    found: dict[int, tuple[Placed, Placed]] = {}
    for run in _runs(crossing, body, pitch):
        ends = sum(
            all(_beside(one, run[place], way * _NEXT * pitch) for one in (left, right))
            for place, way in ((0, -1), (-1, 1))
        )
        if ends == 0 and not (gutter.bridged and len(run) > _FEW):
            continue
        near = _NEAR if ends == 2 or len(run) <= _FEW else _VERY_NEAR if ends else _CLOSEST
        near = math.inf if ends == 2 and len(run) <= _FEW else near
        cuts = [_gap_near(one, x, near * body) for one in run]
        if sum(map(bool, cuts)) < _SURE * len(run):
            continue
        for one, cut in zip(run, cuts, strict=True):
            if cut := cut or _gap_near(one, x, math.inf):
                found[id(one)] = _cut(one, scale.skew, *cut)
    return found


def _runs(crossing: Sequence[Placed], body: float, pitch: float) -> list[list[Placed]]:
    """Neighbours among the boxes as high as the body text, each at the pitch of the text."""
    runs: list[list[Placed]] = []
    for one in crossing:
        if one.height > _TALL * body:
            continue
        if runs and one.middle - runs[-1][-1].middle < _NEXT * pitch:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _beside(lines: Sequence[Placed], one: Placed, reach: float) -> bool:
    """Whether one of `lines` stands within `reach` under `one`, or above it where negative."""
    low, high = sorted((one.middle, one.middle + reach))
    return any(
        other.left < one.right and other.right > one.left for other in between(lines, low, high)
    )


def _gap_near(one: Placed, x: float, reach: float) -> tuple[int, float, float] | None:
    """The space nearest to `x`: how many words stand before it, where it begins and ends.

    The last two are shares of the line's length. None where there is no space within `reach`.
    """
    best, distance = None, reach
    spans = one.line.spans or _spans(one.line.text)
    for number, ((_, begin), (end, _)) in enumerate(pairwise(spans), 1):
        off = abs(one.left + (begin + end) / 2 * one.width - x)
        if off < distance:
            best, distance = (number, begin, end), off
    return best


def _spans(text: str) -> tuple[tuple[float, float], ...]:
    """About where the words of a line begin and end, by the usual widths of letters."""
    ends, total = [], 0.0
    for character in text:
        total += _WIDTHS.get(character, 1.0)
        ends.append(total)
    spans, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        before = ends[start - 1] if start else 0.0
        start += len(word)
        spans.append((before / total, ends[start - 1] / total))
    return tuple(spans)


def _cut(one: Placed, skew: float, words: int, begin: float, end: float) -> tuple[Placed, Placed]:
    said = one.line.text.split()
    first = _part(one.line, " ".join(said[:words]), 0.0, begin, slice(None, words))
    second = _part(one.line, " ".join(said[words:]), end, 1.0, slice(words, None))
    return place(first, skew), place(second, skew)


def _part(line: Line, text: str, begin: float, end: float, words: slice) -> Line:
    """What stands from `begin` to `end`, shares of the line's length."""
    length = max(end - begin, 1e-6)
    spans = tuple(
        ((start - begin) / length, (stop - begin) / length) for start, stop in line.spans[words]
    )
    return Line(text, line.confidence, _share(line.polygon, begin, end), spans)


def _share(polygon: Polygon, begin: float, end: float) -> Polygon:
    """Part of a line's outline, from its first two and its last two corners."""
    (x0, y0), (x1, y1) = polygon[0], polygon[1]
    (x3, y3), (x2, y2) = polygon[-1], polygon[-2]
    upper = [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in (begin, end)]
    lower = [(x3 + (x2 - x3) * share, y3 + (y2 - y3) * share) for share in (end, begin)]
    return (*upper, *lower)
