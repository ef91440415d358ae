"""XML written element by element, so that a document of many pages need not be held whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO
from xml.etree import ElementTree as ET

from ocr.exports.page import Box, Point

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def element(
    tag: str, attributes: dict[str, object] | None = None, *children: ET.Element, text: str = ""
) -> ET.Element:
    """An element; an attribute that is None is left out."""
    given = {key: str(value) for key, value in (attributes or {}).items() if value is not None}
    made = ET.Element(tag, given)
    made.extend(children)
    made.text = text or None
    return made


def put(target: BinaryIO, one: ET.Element, depth: int) -> None:
    """Writes the element indented by `depth` spaces, on lines of its own."""
    ET.indent(one, " ", depth)
    target.write((" " * depth + ET.tostring(one, encoding="unicode") + "\n").encode())


def number(value: float) -> str:
    """At most one place after the point, and none where there is nothing to say."""
    return f"{value:.1f}".removesuffix(".0")


def box_attributes(box: Box) -> dict[str, object]:
    """ALTO's way to say where something is."""
    left, top, right, bottom = box
    return {
        "HPOS": number(left),
        "VPOS": number(top),
        "WIDTH": number(right - left),
        "HEIGHT": number(bottom - top),
    }


def points(corners: Iterable[Point]) -> str:
    """`x,y x,y …` in whole pixels, none below 0."""
    return " ".join(f"{max(0, round(x))},{max(0, round(y))}" for x, y in corners)
