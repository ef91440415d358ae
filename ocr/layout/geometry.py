"""Lines put straight: where they stand once the page's skew is taken out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median

from ocr.engines.base import Line, Polygon

# Lines this far apart (in heights of the lower one) still stand in one row.
_SAME_ROW = 0.5
# Beyond this share of the narrower line, two lines stand one above the other, not side by side.
_STACKED = 0.5
# A line of this many characters has a full say in how high the text is; shorter ones have less.
_FULL_SAY = 20
# A page tilted by more is turned, not skewed: taking the tilt out would only shuffle it.
_MOST_SKEW = math.radians(15)
_MIDDLE = attrgetter("middle")


@dataclass(slots=True)
class Placed:
    """A line in the page's own axes, the skew taken out.

    `middle` and `height` are those of the line itself: on a warped page it may still lean.
    """

    line: Line
    left: float
    right: float
    middle: float
    height: float

    @property
    def top(self) -> float:
        return self.middle - self.height / 2

    @property
    def bottom(self) -> float:
        return self.middle + self.height / 2

    @property
    def centre(self) -> float:
        return (self.left + self.right) / 2

    @property
    def width(self) -> float:
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class Scale:
    """A page's measures in pixels: how high its ordinary text is and how far apart its lines are.

    `skew`: what was taken out, in radians.
    """

    body: float
    pitch: float
    skew: float


def place(line: Line, skew: float) -> Placed:
    cos, sin = math.cos(skew), math.sin(skew)
    xs = [x * cos + y * sin for x, y in line.polygon]
    ys = [y * cos - x * sin for x, y in line.polygon]
    height = max(ys) - min(ys)
    if len(ys) == 4 and xs[1] - xs[0] > height:
        height = (math.dist(line.polygon[0], line.polygon[3]) + math.dist(*line.polygon[1:3])) / 2
    return Placed(line, min(xs), max(xs), (min(ys) + max(ys)) / 2, max(height, 1.0))


def level(one: Placed, other: Placed) -> bool:
    """Whether two lines stand at one height, judged by the lower (less tall) of the two."""
    return abs(one.middle - other.middle) < _SAME_ROW * min(one.height, other.height)


def stacked(one: Placed, other: Placed) -> bool:
    """Whether two lines share so much of their width that one stands above the other."""
    shared = min(one.right, other.right) - max(one.left, other.left)
    return shared > _STACKED * max(min(one.width, other.width), 1.0)


def gap(one: Placed, other: Placed) -> float:
    """How far two lines stand apart from left to right, 0 where they overlap."""
    return max(one.left - other.right, other.left - one.right, 0.0)


def between(lines: Sequence[Placed], low: float, high: float) -> Iterator[Placed]:
    """Those of `lines`, sorted by their middles, whose middle lies between two heights."""
    for number in range(bisect_left(lines, low, key=_MIDDLE), len(lines)):
        if lines[number].middle >= high:
            return
        yield lines[number]


def scale_of(lines: Sequence[Placed], skew: float) -> Scale:
    """The scale of a page whose skew, in radians, was taken out of `lines`."""
    body = _weighted_median((one.height, min(len(one.line.text), _FULL_SAY)) for one in lines)
    return Scale(body, _pitch(sorted(lines, key=lambda one: one.middle), body), skew)


def _pitch(lines: Sequence[Placed], body: float) -> float:
    """How far apart the lines of the text usually stand, from middle to middle."""
    steps = []
    for number, one in enumerate(lines):
        for other in lines[number + 1 :]:
            step = other.middle - one.middle
            if step > 2 * body:
                break
            if step > 0.5 * body and other.left < one.right and other.right > one.left:
                steps.append(step)
                break
    return median(steps) if steps else 1.2 * body


def page_skew(lines: Sequence[Line]) -> float:
    """The tilt of the page in radians: the median tilt of its lines, each weighted by length.

    Short boxes tell nothing about the tilt (a pixel more or less on one corner tilts them), and
    the weight keeps them from having a say.
    """
    tilt = _weighted_median(filter(None, (_tilt(line.polygon) for line in lines)))
    return tilt if abs(tilt) <= _MOST_SKEW else 0.0


def _tilt(polygon: Polygon) -> tuple[float, float] | None:
    """(angle, length) of the upper edge, or None for a box too short to have a direction."""
    (x0, y0), (x1, y1) = polygon[0], polygon[1]
    (x3, y3) = polygon[-1]
    length, height = math.hypot(x1 - x0, y1 - y0), math.hypot(x3 - x0, y3 - y0)
    if length < 3 * height or x1 <= x0:
        return None
    return math.atan2(y1 - y0, x1 - x0), length


def _weighted_median(values: Iterable[tuple[float, float]]) -> float:
    """The value at which half of the weight is reached, of `(value, weight)`; 0 of none."""
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    for value, weight in ordered:
        half -= weight
        if half <= 0:
            return value
    return 0.0
