"""hocr: XHTML whose class names and titles say what is where (hOCR 1.2)."""

from __future__ import annotations

import math
from typing import BinaryIO
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from ocr.exports.page import Box, JobPages, PageBlock, PageLine, PageText
from ocr.exports.words import DESCENT, Frame, frame, words
from ocr.exports.xml import HEAD, element, put

_DOCTYPE = (
    '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
)
_CAPABILITIES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_lang ocrp_wconf"
# A line turned further stands: its baseline is no function of x any more.
_STEEP = math.radians(45)


def write(pages: JobPages, target: BinaryIO) -> None:
    """A page that could not be read is an ocr_page with nothing in it."""
    name = pages.job.document.name
    target.write((HEAD + _DOCTYPE + _head(pages)).encode())
    for page in pages:
        put(target, _page(page, name), 2)
    target.write(b" </body>\n</html>\n")


def _head(pages: JobPages) -> str:
    def meta(key: str, value: str) -> str:
        return f"  <meta name={quoteattr(key)} content={quoteattr(value)}/>\n"

    return (
        '<html xmlns="http://www.w3.org/1999/xhtml">\n <head>\n'
        f"  <title>{escape(pages.job.document.name)}</title>\n"
        '  <meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        + meta("ocr-system", "ocr")
        + meta("ocr-capabilities", _CAPABILITIES)
        + meta("ocr-langs", " ".join(pages.languages()) or "unknown")
        + meta("ocr-number-of-pages", str(len(pages)))
        + " </head>\n <body>\n"
    )


def _page(page: PageText, name: str) -> Element:
    title = [
        f'image "{_quoted(name)}"',
        _bbox((0, 0, page.width, page.height)),
        f"ppageno {page.number - 1}",
    ]
    if page.dpi:
        title.append(f"scan_res {page.dpi} {page.dpi}")
    areas = [_area(page, block, index) for index, block in enumerate(page.blocks, 1)]
    attributes = {
        "class": "ocr_page",
        "id": f"page_{page.number}",
        "title": "; ".join(title),
        **_language(page),
    }
    return element("div", attributes, *areas)


def _area(page: PageText, block: PageBlock, index: int) -> Element:
    suffix = f"{page.number}_{index}"
    title = _bbox(block.box)
    lines = [_line(page, number) for number in range(block.first, block.end)]
    paragraph = element("p", {"class": "ocr_par", "id": f"par_{suffix}", "title": title}, *lines)
    return element(
        "div", {"class": "ocr_carea", "id": f"block_{suffix}", "title": title}, paragraph
    )


def _line(page: PageText, number: int) -> Element:
    line = page.lines[number]
    confidence = round(line.confidence * 100)
    parts = [
        element(
            "span",
            {
                "class": "ocrx_word",
                "id": f"word_{page.number}_{number + 1}_{index}",
                "title": f"{_bbox(word.box)}; x_wconf {confidence}",
            },
            text=word.text,
        )
        for index, word in enumerate(words(line), 1)
    ]
    title = [_bbox(line.box), _slant(line, frame(line))]
    return element(
        "span",
        {
            "class": "ocr_line",
            "id": f"line_{page.number}_{number + 1}",
            "title": "; ".join(title),
        },
        *parts,
    )


def _slant(line: PageLine, axes: Frame) -> str:
    """The baseline, from the box's lower left corner on; or the angle of a steep line."""
    if abs(axes.angle) > _STEEP:
        # Counted the other way round than ours.
        return f"textangle {-math.degrees(axes.angle):.1f}"
    slope = math.tan(axes.angle)
    left, _top, _right, bottom = line.box
    x, y = axes.at(0, 1 - DESCENT)
    return f"baseline {slope:.3f} {y + (left - x) * slope - bottom:.1f}"


def _bbox(box: Box) -> str:
    left, top, right, bottom = box
    return f"bbox {math.floor(left)} {math.floor(top)} {math.ceil(right)} {math.ceil(bottom)}"


def _language(page: PageText) -> dict[str, object]:
    code = page.languages[0] if page.languages else None
    return {"lang": code, "xml:lang": code}


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
