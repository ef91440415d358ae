"""alto: ALTO XML, as libraries and archives keep OCR (schema version 4.3)."""

from __future__ import annotations

from itertools import pairwise
from typing import BinaryIO
from xml.etree.ElementTree import Element

from ocr.exports.page import Box, JobPages, PageBlock, PageLine, PageText, box_around
from ocr.exports.words import DESCENT, frame, words
from ocr.exports.xml import HEAD, box_attributes, element, number, points, put

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-3.xsd"
_HEADING = "tag_heading_{}"


def write(pages: JobPages, target: BinaryIO) -> None:
    """All pages in one file. One that could not be read is a Page without blocks."""
    target.write(
        (
            f'{HEAD}<alto xmlns="{_NAMESPACE}" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:schemaLocation="{_NAMESPACE} {_SCHEMA}" SCHEMAVERSION="4.3">\n'
        ).encode()
    )
    put(target, _description(pages), 1)
    put(target, _tags(), 1)
    target.write(b" <Layout>\n")
    for page in pages:
        put(target, _page(page), 2)
    target.write(b" </Layout>\n</alto>\n")


def _description(pages: JobPages) -> Element:
    job = pages.job
    moment = job.finished_at or job.created_at
    engines = job.results.values_list("engine", "model_version").distinct()
    software = [
        element(
            "processingSoftware",
            None,
            element("softwareName", text=engine),
            element("softwareVersion", text=version),
        )
        for engine, version in sorted(engines)
        if engine
    ]
    steps = [
        element(
            "Processing",
            {"ID": f"processing_{index}"},
            element("processingCategory", text="contentGeneration"),
            element("processingDateTime", text=moment.isoformat()),
            element("processingStepDescription", text="OCR"),
            element("processingStepSettings", text=f"language={job.language}; dpi={job.dpi}"),
            one,
        )
        for index, one in enumerate(software, 1)
    ]
    source = element("sourceImageInformation", None, element("fileName", text=job.document.name))
    return element("Description", None, element("MeasurementUnit", text="pixel"), source, *steps)


def _tags() -> Element:
    return element(
        "Tags",
        None,
        *(
            element(
                "StructureTag",
                {"ID": _HEADING.format(level), "LABEL": "heading", "DESCRIPTION": f"level {level}"},
            )
            for level in (1, 2, 3)
        ),
    )


def _page(page: PageText) -> Element:
    whole = {"HPOS": 0, "VPOS": 0, "WIDTH": page.width, "HEIGHT": page.height}
    blocks = [_block(page, block, index) for index, block in enumerate(page.blocks, 1)]
    attributes = {
        "ID": f"page_{page.number}",
        "PHYSICAL_IMG_NR": page.number,
        "WIDTH": page.width,
        "HEIGHT": page.height,
        "PC": page.mean_confidence,
    }
    return element("Page", attributes, element("PrintSpace", whole, *blocks))


def _block(page: PageText, block: PageBlock, index: int) -> Element:
    name = f"{page.number}_{index}"
    numbers = list(range(block.first, block.end))
    if block.kind != "table":
        tag = _HEADING.format(block.level) if block.kind == "heading" else None
        return _text_block(page, f"block_{name}", block.box, numbers, tag)
    cells = [list(cell) for row in block.rows for cell in row if cell]
    loose = [[one] for one in numbers if not any(one in cell for cell in cells)]
    parts = [
        _text_block(page, f"cell_{name}_{place}", None, cell)
        for place, cell in enumerate([*cells, *loose], 1)
    ]
    attributes = {"ID": f"block_{name}", **box_attributes(block.box), "TYPE": "table"}
    return element("ComposedBlock", attributes, *parts)


def _text_block(
    page: PageText, name: str, box: Box | None, numbers: list[int], tag: str | None = None
) -> Element:
    held = tuple(page.lines[number] for number in numbers)
    attributes = {"ID": name, **box_attributes(box or box_around(held)), "TAGREFS": tag}
    attributes["LANG"] = page.languages[0] if page.languages else None
    return element("TextBlock", attributes, *(_line(page, number) for number in numbers))


def _line(page: PageText, index: int) -> Element:
    line, name = page.lines[index], f"{page.number}_{index + 1}"
    axes, parts = frame(line), words(line)
    foot = (axes.at(0, 1 - DESCENT), axes.at(1, 1 - DESCENT))
    strings = [
        element(
            "String",
            {
                "ID": f"word_{name}_{place}",
                **box_attributes(word.box),
                "CONTENT": word.text,
                "WC": f"{line.confidence:.4f}",
            },
        )
        for place, word in enumerate(parts, 1)
    ]
    spaces = [
        element("SP", box_attributes(_between(one.box, other.box)))
        for one, other in pairwise(parts)
    ]
    attributes = {
        "ID": f"line_{name}",
        **box_attributes(line.box),
        "BASELINE": points(foot),
    }
    made = element("TextLine", attributes, _shape(line))
    for place, string in enumerate(strings):
        made.append(string)
        made.extend(spaces[place : place + 1])
    if not strings:
        made.append(element("String", {**box_attributes(line.box), "CONTENT": ""}))
    return made


def _shape(line: PageLine) -> Element:
    corners = " ".join(f"{number(x)},{number(y)}" for x, y in line.polygon)
    return element("Shape", None, element("Polygon", {"POINTS": corners}))


def _between(one: Box, other: Box) -> Box:
    """The room between two words; nothing where they touch."""
    return one[2], one[1], max(one[2], other[0]), one[3]
