"""The text that a PDF's page itself holds, where it can be trusted to be all there is to read.

It is exact, and hundreds of times cheaper than reading the drawn page. It is left aside where the
page is a scan (whatever an earlier program read there is of unknown quality), where the fonts
don't say which characters their signs are, and where much more is drawn than written.

All of this runs under the lock of `ocr.pdf_pages`.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ocr.engines.base import Line, Point
from ocr.pdf_objects import Drawn, drawn_on

if TYPE_CHECKING:
    import pypdfium2 as pdfium

# Pictures over more of the page than this make it a scan.
_PICTURES = 0.65
# With fewer characters than this hardly anything else may be drawn: else it is a scan with a
# stamped page number, or a title page whose letters are outlines.
_FEW = 25
_FEW_PATHS = 60
_FEW_PICTURES = 0.02
# Letters drawn as outlines are shapes, and many; the shapes of figures are fewer, as a rule.
_PATHS_PER_CHARACTER = 3
# Shares of characters without a meaning, of words in fonts that don't say theirs, and of letters
# and digits among all signs.
_MEANINGLESS_SHARE = 0.05
_UNMAPPED_SHARE = 0.1
_READABLE_SHARE = 0.5
# Words further apart than this, in heights of the line, stand in columns.
_GAP = 1.5
# How much higher or lower than the line before it a word of the same line may stand, likewise.
_STEP = 0.6

_INVISIBLE = 3  # a text render mode: neither filled nor stroked
_SAMPLES = 60
# Where a line broke inside a word pdfium puts one of these in place of the hyphen and the break.
_HYPHENS = "\x02\ufffe"
_SEGMENT = re.compile(rf"[^\r\n{_HYPHENS}]+[{_HYPHENS}]?")
_WORD = re.compile(r"\S+")
_MEANINGLESS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\uffff\ue000-\uf0b6\uf0b8-\uf8ff]"
)
# Halves of a letter or a picture count: either way the font has explained them.
_LETTER = re.compile(r"[^\W_]|[\ud800-\udfff]")
# What `_plain` changes; most pages have none of it.
_ODD = re.compile(rf"[{_HYPHENS}\ud800-\udfff\uf0b7]|{_MEANINGLESS.pattern}")
_LEADERS = re.compile(r"([^\w\s])(?:\s*\1)+")


@dataclass(frozen=True, slots=True)
class TextLayer:
    """Lines in pixels of the page as it would be drawn at `dpi`, in the PDF's own order."""

    width: int
    height: int
    dpi: int
    lines: tuple[Line, ...]
    model_version: str


class _Word(NamedTuple):
    """A word, and its box in points along and across its run: `top` is the lesser of the two."""

    text: str
    left: float
    right: float
    top: float
    bottom: float


def read_layer(page: pdfium.PdfPage, scale: float, dpi: int) -> TextLayer | None:
    """The page's text, if it is good; `scale` is in pixels a point."""
    textpage = page.get_textpage()
    try:
        text = _text(textpage)
        if not text or not _readable(text):
            return None
        if not _explains(len("".join(text.split())), drawn_on(page)):
            return None
        words = _Words(page, textpage, text, scale)
        if not words.mapped_and_visible():
            return None
        lines = tuple(words.lines())
        return TextLayer(words.width, words.height, dpi, lines, _pdfium_version())
    finally:
        textpage.close()


def _pdfium_version() -> str:
    import pypdfium2 as pdfium

    # What follows the @ tells how it was built.
    return f"pdfium {str(pdfium.PDFIUM_INFO.version).partition('@')[0]}"


def _text(textpage: pdfium.PdfTextPage) -> str:
    """A character for each UTF-16 unit, so that positions are those that pdfium counts."""
    import pypdfium2.raw as raw

    count = textpage.count_chars()
    if count <= 0:
        return ""
    units = (ctypes.c_ushort * (count + 1))()
    written = raw.FPDFText_GetText(textpage, 0, count, units)
    return "".join(map(chr, units[: max(written - 1, 0)]))


def _readable(text: str) -> bool:
    """Whether it is characters of some script, rather than signs that a font left unexplained."""
    signs = "".join(_LEADERS.sub(r"\1", text).translate({ord(h): "-" for h in _HYPHENS}).split())
    if not signs:
        return False
    if len(_MEANINGLESS.findall(signs)) > _MEANINGLESS_SHARE * len(signs):
        return False
    return len(signs) < _FEW or len(_LETTER.findall(signs)) >= _READABLE_SHARE * len(signs)


def _explains(characters: int, drawn: Drawn) -> bool:
    """Whether this many characters can be all the text that is to be seen on the page."""
    if drawn.pictures > _PICTURES:
        return False
    if characters < _FEW:
        return drawn.pictures <= _FEW_PICTURES and drawn.paths <= _FEW_PATHS
    return drawn.paths <= _FEW_PATHS + _PATHS_PER_CHARACTER * characters


class _Words:
    """The words of one page with their boxes, and how they make lines."""

    def __init__(
        self, page: pdfium.PdfPage, textpage: pdfium.PdfTextPage, text: str, scale: float
    ) -> None:
        import pypdfium2.raw as raw

        self._raw = raw
        self._textpage = textpage
        self._text = text
        # Positions in the text and in pdfium's own list part where a character was left out.
        self._same = len(text) == textpage.count_chars()
        self._odd = _ODD.search(text) is not None
        self.width = math.ceil(page.get_width() * scale)
        self.height = math.ceil(page.get_height() * scale)
        self._origin, self._across, self._up = _axes(page, self.width, self.height)
        self._box = raw.FS_RECTF()
        self._box_at = ctypes.byref(self._box)

    def mapped_and_visible(self) -> bool:
        """Judged by a sample of the words."""
        raw, starts = self._raw, [match.start() for match in _WORD.finditer(self._text)]
        sample = [self._index(at) for at in starts[:: max(len(starts) // _SAMPLES, 1)]]
        unmapped = sum(raw.FPDFText_HasUnicodeMapError(self._textpage, at) == 1 for at in sample)
        objects = [raw.FPDFText_GetTextObject(self._textpage, at) for at in sample]
        hidden = sum(raw.FPDFTextObj_GetTextRenderMode(one) == _INVISIBLE for one in objects if one)
        return unmapped <= _UNMAPPED_SHARE * len(sample) and hidden <= len(sample) / 2

    def lines(self) -> Iterator[Line]:
        """In pdfium's order, divided where words of a line stand in columns."""
        for segment in _SEGMENT.finditer(self._text):
            line: list[_Word] = []
            ahead = (1.0, 0.0)
            for match in _WORD.finditer(self._text, segment.start(), segment.end()):
                if not line:
                    ahead = self._direction(self._index(match.start()))
                word = self._word(match, ahead)
                if word is None:
                    continue
                if line and not _follows(line[-1], word):
                    yield self._line(line, ahead)
                    line = []
                line.append(word)
            if line:
                yield self._line(line, ahead)

    def _word(self, match: re.Match[str], ahead: Point) -> _Word | None:
        """None for a word without a box or without a readable character."""
        text = _plain(match[0]) if self._odd else match[0]
        edges = self._edges(match.start(), ahead)
        if not text or edges is None:
            return None
        left, right, top, bottom = edges
        if match.end() - match.start() > 1:
            last = self._edges(match.end() - 1, ahead)
            if last is not None:
                left, right = min(left, last[0]), max(right, last[1])
                top, bottom = min(top, last[2]), max(bottom, last[3])
        return _Word(text, left, right, top, bottom)

    def _edges(self, at: int, ahead: Point) -> tuple[float, float, float, float] | None:
        """Of the character's cell, as high as its font: along the run, then across it."""
        box = self._box
        if not self._raw.FPDFText_GetLooseCharBox(self._textpage, self._index(at), self._box_at):
            return None
        if ahead == (1.0, 0.0):
            return box.left, box.right, -box.top, -box.bottom
        corners = [(x, y) for x in (box.left, box.right) for y in (box.top, box.bottom)]
        along = [x * ahead[0] + y * ahead[1] for x, y in corners]
        across = [x * ahead[1] - y * ahead[0] for x, y in corners]
        return min(along), max(along), min(across), max(across)

    def _index(self, at: int) -> int:
        if self._same:
            return at
        return max(self._raw.FPDFText_GetCharIndexFromTextIndex(self._textpage, at), 0)

    def _direction(self, index: int) -> Point:
        """Where the run leads, as a unit vector in the page's own axes."""
        matrix = self._raw.FS_MATRIX()
        if not self._raw.FPDFText_GetMatrix(self._textpage, index, ctypes.byref(matrix)):
            return 1.0, 0.0
        length = math.hypot(matrix.a, matrix.b)
        # Rounded, so that what runs straight does so exactly.
        return (
            (round(matrix.a / length, 4) + 0.0, round(matrix.b / length, 4) + 0.0)
            if length
            else (1.0, 0.0)
        )

    def _line(self, words: list[_Word], ahead: Point) -> Line:
        left, right = min(word.left for word in words), max(word.right for word in words)
        top, bottom = min(word.top for word in words), max(word.bottom for word in words)
        polygon = tuple(
            self._pixels(along * ahead[0] + across * ahead[1], along * ahead[1] - across * ahead[0])
            for along, across in ((left, top), (right, top), (right, bottom), (left, bottom))
        )
        length = max(right - left, 1e-6)
        spans = tuple(((word.left - left) / length, (word.right - left) / length) for word in words)
        return Line(" ".join(word.text for word in words), 1.0, polygon, spans)

    def _pixels(self, x: float, y: float) -> Point:
        return (
            self._origin[0] + x * self._across[0] + y * self._up[0],
            self._origin[1] + x * self._across[1] + y * self._up[1],
        )


def _axes(page: pdfium.PdfPage, width: int, height: int) -> tuple[Point, Point, Point]:
    """Where the page's origin lies in pixels, and how far a point along each of its axes leads.

    pdfium knows of the page's rotation and crop box, but answers in whole pixels: it is asked
    about a far larger picture.
    """
    import pypdfium2.raw as raw

    fine, reach = 256, 1000

    def device(x: int, y: int) -> Point:
        at_x, at_y = ctypes.c_int(), ctypes.c_int()
        size = (width * fine, height * fine)
        raw.FPDF_PageToDevice(page, 0, 0, *size, 0, x, y, ctypes.byref(at_x), ctypes.byref(at_y))
        return at_x.value / fine, at_y.value / fine

    (ox, oy), (ax, ay), (dx, dy) = device(0, 0), device(reach, 0), device(0, reach)
    return (
        (ox, oy),
        ((ax - ox) / reach, (ay - oy) / reach),
        ((dx - ox) / reach, (dy - oy) / reach),
    )


def _follows(before: _Word, word: _Word) -> bool:
    """Whether two words of one direction stand side by side in one line."""
    height = max(before.bottom - before.top, word.bottom - word.top, 1.0)
    step = abs(before.top + before.bottom - word.top - word.bottom) / 2
    return step < _STEP * height and -height < word.left - before.right < _GAP * height


def _plain(word: str) -> str:
    """The word with its hyphen, its letters beyond UTF-16's first 65,536 put together again."""
    if word[-1] in _HYPHENS:
        word = word[:-1] + "-"
    # F0B7 is the bullet in the private codes of the Symbol font.
    word = word.replace("\uf0b7", "\u2022")
    if any("\ud800" <= sign <= "\udfff" for sign in word):
        word = word.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _MEANINGLESS.sub("", word)
