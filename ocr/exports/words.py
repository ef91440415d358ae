"""Where the words of a line stand: as the engine says, else by the widths of their letters."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from ocr.exports.page import Box, PageLine, Point, box_of

# Characters by their width, in shares of an em: between those of the usual faces with and without
# serifs. What stands nowhere here is told by its kind.
_WIDTHS = {
    0.25: " \u00a0ijl.,:;'|!·’‘",  # noqa: RUF001  (print's quotes)
    0.3: "ftI/\\[]()",
    0.35: 'r-"`{}“”',
    0.45: "sczJ*",
    0.55: "bdghnopqu0123456789",
    0.6: "FLPSTZ+=<>~",
    0.75: "wGOQ&",
    0.85: "mM%",
    0.95: "W@—…",
}
NONE, SPACE, LOWER, CAPITAL, FULL = 0, 0.25, 0.5, 0.7, 1
# The glyphs that the PDF's hidden text is set in.
ADVANCES = (NONE, *_WIDTHS, LOWER, CAPITAL, FULL)

_BY_CHARACTER = {character: width for width, some in _WIDTHS.items() for character in some}
# The share of a line's height that lies below the feet of its letters.
DESCENT = 0.2
# A box of several letters this much taller than wide is text that runs down the page.
_UPENDED = 1.5


@dataclass(frozen=True, slots=True)
class Frame:
    """A line's own axes: `across` along its foot, `down` from its head to its foot, in pixels."""

    origin: Point
    across: Point
    down: Point

    def at(self, along: float, below: float) -> Point:
        """The point at these shares of the line's length and height."""
        (x, y), (ax, ay), (dx, dy) = self.origin, self.across, self.down
        return x + along * ax + below * dx, y + along * ay + below * dy

    def quad(self, begin: float, end: float) -> tuple[Point, ...]:
        """The corners from share `begin` to share `end`, clockwise from the text's top left."""
        return self.at(begin, 0), self.at(end, 0), self.at(end, 1), self.at(begin, 1)

    @property
    def angle(self) -> float:
        """How far the text is turned clockwise, in radians."""
        return math.atan2(self.across[1], self.across[0])


@dataclass(frozen=True, slots=True)
class Word:
    """One word and its corners; `begin` and `end` are shares of the line's length."""

    text: str
    begin: float
    end: float
    polygon: tuple[Point, ...]

    @property
    def box(self) -> Box:
        return box_of(self.polygon)


@lru_cache(maxsize=4096)
def advance(character: str) -> float:
    """How much room a character takes, in em: one of ADVANCES."""
    known = _BY_CHARACTER.get(character)
    if known is not None:
        return known
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf", "Cc"):
        return NONE
    if unicodedata.east_asian_width(character) in ("W", "F"):
        return FULL
    return CAPITAL if kind == "Lu" else LOWER


def frame(line: PageLine) -> Frame:
    """The axes of the line's polygon, its longer side taken as the text's where it runs down."""
    corners = line.polygon if len(line.polygon) == 4 else _corners(line.box)
    top_left, top_right, bottom_right, bottom_left = corners
    down = _mean(_minus(bottom_left, top_left), _minus(bottom_right, top_right))
    across = _mean(_minus(top_right, top_left), _minus(bottom_right, bottom_left))
    if len(line.text) > 1 and math.hypot(*down) >= _UPENDED * math.hypot(*across):
        # Read with the page turned to the left: the text begins at the top right.
        return Frame(top_right, down, (-across[0], -across[1]))
    return Frame(top_left, across, down)


def words(line: PageLine) -> tuple[Word, ...]:
    """The words of a line in the order of the text; none for a line of white space."""
    axes, parts = frame(line), line.text.split()
    spans = line.spans if len(line.spans) == len(parts) else _spans(parts)
    return tuple(
        Word(part, begin, end, axes.quad(begin, end))
        for part, (begin, end) in zip(parts, spans, strict=True)
    )


def _spans(parts: list[str]) -> list[tuple[float, float]]:
    """Shares of the line for each word, one space between two."""
    lengths = [max(sum(map(advance, part)), SPACE) for part in parts]
    begins = [0.0, *accumulate(length + SPACE for length in lengths)]
    whole = begins[-1] - SPACE
    return [
        (begin / whole, (begin + length) / whole)
        for begin, length in zip(begins, lengths, strict=False)
    ]


def _corners(box: Box) -> tuple[Point, ...]:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _minus(one: Point, other: Point) -> Point:
    return one[0] - other[0], one[1] - other[1]


def _mean(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
