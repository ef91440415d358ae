"""Columns: cutting a page along its gutters, the tallest first.

A gutter is a strip that lines end before and begin after. What crosses it (a headline, a caption, a
paragraph as wide as the page) ends it, and so divides the page into bands. Taking the tallest
gutter first keeps a column whole that runs beside a headline over its neighbours. This is the
recursive XY-cut (Nagy and Seth 1984) with the obstacles of Breuel (2002) in place of white space
alone, which a headline would hide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ocr.layout import merged, prose
from ocr.layout.geometry import Placed, Scale, between, level
from ocr.layout.merged import Gutter

# In heights of the body text. Boxes are drawn with slack, and reach this far into a gutter.
_SLACK = 0.6
# Left edges within this are one column's.
_EDGE = 0.5
# A headline over columns is at least this many times as high as the text.
_HEADLINE = 1.25
_ALIKE = 1.2
# A running head is so far (in steps from line to line) from the text, and has fewer characters.
_APART = 1.5
_MARGINAL = 80
# Boxes are taken to lie across a gutter by mistake where each side has so many lines of its own, or
# where another part of the page shows the gutter.
_PLAIN = 2
# A column is at least this wide.
_NARROW = 2.5


@dataclass(slots=True)
class _Band:
    """What stands between two lines that cross a gutter.

    `start` and `end` (exclusive) count in the region's lines; `afloat` stand in the gutter itself,
    `merged` is how many lay across it by mistake.
    """

    x: float
    start: int
    end: int
    left: list[Placed] = field(default_factory=list)
    right: list[Placed] = field(default_factory=list)
    afloat: list[Placed] = field(default_factory=list)
    merged: int = 0

    @property
    def height(self) -> float:
        both = [*self.left, *self.right]
        return max(one.bottom for one in both) - min(one.top for one in both)


def column_parts(lines: Sequence[Placed], scale: Scale) -> list[list[Placed]]:
    """The lines in parts that hold one column each, in reading order.

    A line that lies across a gutter by the detector's mistake comes back as two.
    """
    found: list[Gutter] = []
    head, inner, foot = _margins(sorted(lines, key=lambda one: one.middle), scale)
    parts = [head, *_split(inner, scale, found), foot]
    if not found:
        return parts
    # Where boxes hide a gutter, another part of the page may have shown it.
    known = [one for place, one in enumerate(found) if not _listed(one, found[:place])]
    return [last for part in parts for last in _split(part, scale, [], known)]


def _listed(gutter: Gutter, others: Sequence[Gutter]) -> bool:
    return any(abs(gutter.x - one.x) < 1 and gutter.bridged == one.bridged for one in others)


def _split(
    lines: list[Placed], scale: Scale, found: list[Gutter], edges: Sequence[Gutter] = ()
) -> list[list[Placed]]:
    """The parts of a region, in reading order; the gutters are added to `found`.

    `edges`: where columns may begin; by default where the lines themselves show it.
    """
    if start := _story(lines, scale):
        halves = (lines[:start], lines[start:])
        return [part for half in halves for part in _split(half, scale, found, edges)]
    if edges:
        bands = [b for gutter in edges for b in _bands(lines, gutter, scale) if b.merged]
    else:
        starts = map(Gutter, _edges(lines, scale.body))
        bands = [b for gutter in starts for b in _bands(lines, gutter, scale)]
    bands.sort(key=lambda band: -band.height)
    band = next((band for band in bands if _divides(band, scale.body, found)), None)
    if band is None:
        return [lines] if lines else []
    found.append(Gutter(band.x, known=True, bridged=band.merged > 0))
    parts = (lines[: band.start], band.left, band.afloat, band.right, lines[band.end :])
    return [last for part in parts for last in _split(part, scale, found, edges)]


def _margins(lines: list[Placed], scale: Scale) -> tuple[list[Placed], list[Placed], list[Placed]]:
    """A running head and a foot taken off the lines: (head, the rest, foot).

    Each is one row with a number in it, apart from the rest: else its pieces would be shared out
    among the columns.
    """
    first, last = 0, len(lines)
    if len(lines) > 3:
        while first < last - 1 and level(lines[first], lines[0]):
            first += 1
        while last > first + 1 and level(lines[last - 1], lines[-1]):
            last -= 1
        apart = _APART * scale.pitch
        if not _numbered(lines[:first]) or lines[first].middle - lines[0].middle < apart:
            first = 0
        if not _numbered(lines[last:]) or lines[-1].middle - lines[last - 1].middle < apart:
            last = len(lines)
    return lines[:first], lines[first:last], lines[last:]


def _numbered(row: Sequence[Placed]) -> bool:
    texts = [one.line.text for one in row]
    return sum(map(len, texts)) < _MARGINAL and any(c.isdigit() for text in texts for c in text)


def _story(lines: list[Placed], scale: Scale) -> int:
    """The number of a headline that begins another story over several columns, or 0.

    It may be no wider than one of them. What tells is that nothing stands beside it, that nothing
    reaches over the gap above it, and that all columns begin level under it.
    """
    reached = lines[0].bottom if lines else 0.0
    for number, one in enumerate(lines[1:], 1):
        goes_on = lines[number - 1].height > one.height / _ALIKE
        tall = one.height > _HEADLINE * scale.body and not goes_on
        if tall and one.top - reached > 0.5 * scale.body:
            below = [other for other in lines[number + 1 :] if other.height < one.height / _ALIKE]
            under = [other.top for other in below if other.left < one.right]
            beside = [other.top for other in below if other.right > one.right + scale.body]
            alone = beside and one.bottom - 0.5 * scale.body < min(beside)
            if under and alone and abs(min(under) - min(beside)) < scale.pitch:
                return number
        reached = max(reached, one.bottom)
    return 0


def _divides(band: _Band, body: float, found: list[Gutter]) -> bool:
    if prose.columns(band.left, band.right):
        return True
    known = any(abs(band.x - gutter.x) < body for gutter in found)
    return known and prose.few(band.left) and prose.few(band.right)


def _edges(lines: list[Placed], body: float) -> list[float]:
    """Where columns may begin: left edges that at least two lines share, but the leftmost."""
    if len(lines) < 4:
        return []
    lefts = sorted(one.left for one in lines)
    edges, start = [], 0
    for end in range(1, len(lefts) + 1):
        if end == len(lefts) or lefts[end] > lefts[start] + _EDGE * body:
            if end - start > 1 and lefts[start] > lefts[0] + _NARROW * body:
                edges.append(lefts[start])
            start = end
    return edges


def _bands(lines: list[Placed], gutter: Gutter, scale: Scale) -> Iterator[_Band]:
    """Runs of lines that don't cross a gutter, or only by mistake, with lines on both sides."""
    x = gutter.x
    slack = _SLACK * scale.body
    crossing = [one for one in lines if one.left < x - slack and one.right > x + slack]
    numbers = set(map(id, crossing))
    plain = [one for one in lines if id(one) not in numbers]
    left = [one for one in plain if one.centre < x]
    right = [one for one in plain if one.centre >= x]
    if gutter.known or min(len(left), len(right)) >= _PLAIN:
        halves = merged.halves(crossing, left, right, gutter, scale)
    else:
        halves = {}
    afloat = {
        id(one)
        for one in crossing
        if id(one) not in halves and _beside(one, left) and _beside(one, right)
    }
    band = _Band(x, 0, 0)
    for number, one in enumerate(lines):
        if id(one) in halves:
            first, second = halves[id(one)]
            band.left.append(first)
            band.right.append(second)
            band.merged += 1
        elif id(one) in afloat:
            band.afloat.append(one)
        elif id(one) not in numbers:
            (band.left if one.centre < x else band.right).append(one)
        else:
            band.end = number
            yield from _sided(band)
            band = _Band(x, number + 1, 0)
    band.end = len(lines)
    yield from _sided(band)


def _beside(one: Placed, lines: Sequence[Placed]) -> bool:
    """Whether one of `lines` stands beside `one`, level with it."""
    level_with = between(lines, one.middle - one.height / 2, one.middle + one.height / 2)
    return any(
        other.right < one.left + one.height or other.left > one.right - one.height
        for other in level_with
    )


def _sided(band: _Band) -> Iterator[_Band]:
    if band.left and band.right:
        yield band
