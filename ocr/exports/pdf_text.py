"""A page's hidden text as PDF operators: each word over its picture, selectable and not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ocr.exports.page import Box, PageLine, PageText, Point
from ocr.exports.pdf_font import HiddenFont, width
from ocr.exports.words import DESCENT, Word, frame, words

FONT = b"/HiddenText"
# The text rendering mode that draws nothing.
_INVISIBLE = 3
# Points; a line that is smaller is nowhere.
_LEAST = 0.1

Place = Callable[[Point], Point]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A PDF page: its visible box in user space, and how far it is shown turned, clockwise."""

    box: Box
    turned: int

    def place(self, page: PageText) -> Place:
        """Pixels of the upright page -> user space, in which y goes up and nothing is turned."""
        left, bottom, right, top = self.box
        along, below = (page.height, page.width) if self.turned % 180 else (page.width, page.height)
        sx, sy = (right - left) / along, (top - bottom) / below
        match self.turned % 360:
            case 90:
                return lambda point: (left + point[1] * sx, bottom + point[0] * sy)
            case 180:
                return lambda point: (right - point[0] * sx, bottom + point[1] * sy)
            case 270:
                return lambda point: (right - point[1] * sx, top - point[0] * sy)
        return lambda point: (left + point[0] * sx, top - point[1] * sy)


def text_layer(page: PageText, sheet: Sheet, font: HiddenFont) -> bytes:
    """The operators for all lines in reading order; they leave the graphics state as it was."""
    place = sheet.place(page)
    lines = b"".join(_line(line, place, font) for line in page.lines)
    return b"q BT %d Tr\n%sET Q\n" % (_INVISIBLE, lines)


def _line(line: PageLine, place: Place, font: HiddenFont) -> bytes:
    axes, parts = frame(line), words(line)
    size = math.dist(place(axes.at(0, 0)), place(axes.at(0, 1)))
    length = math.dist(place(axes.at(0, 0)), place(axes.at(1, 0)))
    if not parts or size < _LEAST or length < _LEAST:
        return b""
    foot = 1 - DESCENT
    (x0, y0), (x1, y1) = (
        place(axes.at(parts[0].begin, foot)),
        place(axes.at(1 + parts[0].begin, foot)),
    )
    cos, sin = (x1 - x0) / length, (y1 - y0) / length
    matrix = b"%.5f %.5f %.5f %.5f %.2f %.2f Tm" % (cos, sin, -sin, cos, x0, y0)
    shown = _shown(parts, length / size * 1000, font)
    return b"%s %.2f Tf %s %s\n" % (FONT, size, matrix, shown)


def _shown(parts: Sequence[Word], length: float, font: HiddenFont) -> bytes:
    """The words of a line of `length` thousandths of an em, each stretched to its own room.

    A space stands after each but the last, so that what is copied has words, and a step to where
    the next one begins. Words of one scale, as estimated ones are, go into one operator.
    """
    out, array, before = [], [], None
    for index, word in enumerate(parts):
        scale = round((word.end - word.begin) * length / (width(word.text) or 1) * 100, 2) or 0.01
        if scale != before:
            out.append(b"[%s] TJ" % b"".join(array) if array else b"")
            out.append(b"%.2f Tz" % scale)
            array, before = [], scale
        if index + 1 == len(parts):
            array.append(font.encode(word.text))
        else:
            gap = (parts[index + 1].begin - word.end) * length / scale * 100
            array.append(b"%s%d" % (font.encode(word.text + " "), width(" ") - gap))
    return b" ".join([*out, b"[%s] TJ" % b"".join(array)])
