"""The font of a PDF's hidden text: blank glyphs of a few widths, mapped back to characters.

Nothing is drawn with it, so that one glyph a width serves every script. What counts is the room
that a character takes, for selecting, and its code in ToUnicode, for finding and copying.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO

from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from pikepdf import Array, Dictionary, Name, Pdf

from ocr.exports.words import ADVANCES, DESCENT, advance

_UNITS = 1000
_NAME = "BlankText"
_SYMBOLIC = 4
# A block of a CMap may hold no more.
_BLOCK = 100


class HiddenFont:
    """Gives each character of a document a code, and is written when all of them are known."""

    def __init__(self, pdf: Pdf) -> None:
        self._pdf = pdf
        self._codes: dict[str, bytes] = {}
        self.reference = pdf.make_indirect(Dictionary())

    def encode(self, text: str) -> bytes:
        """`text` as a string operand, two bytes a character."""
        return b"<%s>" % b"".join(map(self._code, text))

    def _code(self, character: str) -> bytes:
        """Four hexadecimal digits; codes count from 1."""
        code = self._codes.get(character)
        if code is None:
            code = self._codes[character] = b"%04X" % (len(self._codes) + 1)
        return code

    def finish(self) -> None:
        """Writes the font; nothing may be encoded after this."""
        pdf = self._pdf
        program = pdf.make_stream(_program())
        program.Length1 = len(_program())
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=Name("/" + _NAME),
            Flags=_SYMBOLIC,
            FontBBox=Array([0, _foot(), _UNITS, _head()]),
            ItalicAngle=0,
            Ascent=_head(),
            Descent=_foot(),
            CapHeight=_head(),
            StemV=80,
            FontFile2=program,
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=Name("/" + _NAME),
            CIDSystemInfo=Dictionary(Registry="Adobe", Ordering="Identity", Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor),
            DW=_UNITS,
            W=Array([1, Array([width(one) for one in self._codes])]),
            CIDToGIDMap=pdf.make_stream(self._glyphs()),
        )
        self.reference.update(
            Dictionary(
                Type=Name.Font,
                Subtype=Name.Type0,
                BaseFont=Name("/" + _NAME),
                Encoding=Name("/Identity-H"),
                DescendantFonts=Array([pdf.make_indirect(descendant)]),
                ToUnicode=pdf.make_stream(self._to_unicode()),
            )
        )

    def _glyphs(self) -> bytes:
        glyphs = [0, *(ADVANCES.index(advance(one)) + 1 for one in self._codes)]
        return b"".join(glyph.to_bytes(2) for glyph in glyphs)

    def _to_unicode(self) -> bytes:
        entries = [
            b"<%s> <%s>" % (code, one.encode("utf-16-be").hex().upper().encode())
            for one, code in self._codes.items()
        ]
        blocks = [entries[start : start + _BLOCK] for start in range(0, len(entries), _BLOCK)]
        return b"\n".join(
            [
                b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
                b"/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
                b"/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
                b"1 begincodespacerange <0000> <FFFF> endcodespacerange",
                *(
                    b"%d beginbfchar\n%s\nendbfchar" % (len(block), b"\n".join(block))
                    for block in blocks
                ),
                b"endcmap CMapName currentdict /CMap defineresource pop end end",
            ]
        )


def width(text: str) -> int:
    """The room that `text` takes, in thousandths of the font's size."""
    return round(sum(map(advance, text)) * _UNITS)


def _head() -> int:
    return round((1 - DESCENT) * _UNITS)


def _foot() -> int:
    return -round(DESCENT * _UNITS)


@cache
def _program() -> bytes:
    """A TrueType font of one empty glyph for each of ADVANCES."""
    glyphs = [".notdef", *(f"blank{number}" for number in range(len(ADVANCES)))]
    widths = [_UNITS, *(round(share * _UNITS) for share in ADVANCES)]
    builder = FontBuilder(_UNITS, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({})
    builder.setupGlyf({glyph: Glyph() for glyph in glyphs})
    builder.setupHorizontalMetrics(
        {glyph: (room, 0) for glyph, room in zip(glyphs, widths, strict=True)}
    )
    builder.setupHorizontalHeader(ascent=_head(), descent=_foot())
    builder.setupNameTable({"familyName": _NAME, "styleName": "Regular", "psName": _NAME})
    builder.setupOS2(sTypoAscender=_head(), sTypoDescender=_foot())
    builder.setupPost()
    target = BytesIO()
    builder.save(target)
    return target.getvalue()
