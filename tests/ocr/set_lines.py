"""Lines of text as an ideal engine would box them, set like print; for tests of the layout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ocr.engines.base import Line
from ocr.layout import lay_out, page_text

HEIGHT, PITCH = 20.0, 26.0
_LETTER = 10.0


def line(text: str, left: float, top: float, height: float = HEIGHT) -> Line:
    """A box as wide as its text is long."""
    width = len(text) * _LETTER * height / HEIGHT
    right, bottom = left + width, top + height
    return Line(text, 0.9, ((left, top), (right, top), (right, bottom), (left, bottom)))


def right_of(text: str, right: float, top: float) -> Line:
    """A box that ends at `right`."""
    return line(text, right - len(text) * _LETTER, top)


def prose(name: str, sentences: int) -> str:
    """Sentences, each of whose words is found once in the page: `name` and a number."""
    words = [f"{name}{number}" for number in range(sentences * 9)]
    parts = [words[start : start + 9] for start in range(0, len(words), 9)]
    return " ".join(f"{' '.join(part).capitalize()}." for part in parts)


def column(text: str, left: float, top: float, width: float, indent: float = 0) -> list[Line]:
    """Text broken into lines of at most `width`, ragged, the first set in by `indent`."""
    rows, words = [[]], text.split()
    for word in words:
        room = width - (indent if len(rows) == 1 else 0)
        if rows[-1] and len(" ".join([*rows[-1], word])) * _LETTER > room:
            rows.append([])
        rows[-1].append(word)
    return [
        line(" ".join(row), left + (0 if place else indent), top + place * PITCH)
        for place, row in enumerate(rows)
    ]


def bottom(lines: Sequence[Line]) -> float:
    return max(y for one in lines for _, y in one.polygon)


def read(lines: Sequence[Line]) -> list[str]:
    """The page's words in the order of the layout."""
    return page_text(lay_out(lines, 1240, 1754)).split()


def in_order(words: Sequence[str], *parts: str) -> bool:
    """Whether the parts are read one after the other, each whole."""
    places = []
    for part in parts:
        wanted = part.split()
        start = words.index(wanted[0])
        if list(words[start : start + len(wanted)]) != wanted:
            return False
        places.append(start)
    return all(first < second for first, second in pairwise(places))
