"""page: PAGE XML, as the tools of digital humanities exchange it (schema of 2019-07-15)."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO
from xml.etree.ElementTree import Element

from ocr.exports.page import JobPages, PageBlock, PageLine, PageText, Point, box_around
from ocr.exports.words import DESCENT, Frame, Word, frame, words
from ocr.exports.xml import HEAD, element, points, put
from ocr.models import OcrJob

_NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


def write(pages: JobPages, target: BinaryIO) -> None:
    """A file of PAGE XML holds one page: several come as a zip of `page_0001.xml` and so on."""
    if len(pages) == 1:
        for page in pages:
            _write_page(pages.job, page, target)
        return
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for page in pages:
            content = io.BytesIO()
            _write_page(pages.job, page, content)
            archive.writestr(f"page_{page.number:04}.xml", content.getvalue())


def _write_page(job: OcrJob, page: PageText, target: BinaryIO) -> None:
    schema = f"{_NAMESPACE} {_NAMESPACE}/pagecontent.xsd"
    target.write(
        (
            f'{HEAD}<PcGts xmlns="{_NAMESPACE}" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xsi:schemaLocation="{schema}">\n'
        ).encode()
    )
    put(target, _metadata(job, page), 1)
    put(target, _page(job, page), 1)
    target.write(b"</PcGts>\n")


def _metadata(job: OcrJob, page: PageText) -> Element:
    made = (job.finished_at or job.created_at).strftime(_MOMENT)
    return element(
        "Metadata",
        None,
        element("Creator", text=f"{page.engine} {page.model_version}".strip() or job.engine),
        element("Created", text=job.created_at.strftime(_MOMENT)),
        element("LastChange", text=made),
    )


def _page(job: OcrJob, page: PageText) -> Element:
    regions = [_region(page, block, index) for index, block in enumerate(page.blocks, 1)]
    order = element(
        "OrderedGroup",
        {"id": "reading_order"},
        *(
            element("RegionRefIndexed", {"index": index, "regionRef": region.get("id")})
            for index, region in enumerate(regions)
        ),
    )
    attributes = {
        "imageFilename": job.document.name,
        "imageWidth": page.width,
        "imageHeight": page.height,
        # Coordinates are of the page put upright; the image itself is as it was.
        "custom": f"rotation {{angle:{page.rotation};}}" if page.rotation else None,
    }
    if not regions:
        return element("Page", attributes)
    return element("Page", attributes, element("ReadingOrder", None, order), *regions)


def _region(page: PageText, block: PageBlock, index: int) -> Element:
    name, numbers = f"region_{index}", list(range(block.first, block.end))
    if block.kind == "table":
        return _table(page, block, name)
    kind = "heading" if block.kind == "heading" else "paragraph"
    return _text_region(page, name, _rectangle(block.box), numbers, type=kind)


def _table(page: PageText, block: PageBlock, name: str) -> Element:
    cells, seen = [], set()
    for down, row in enumerate(block.rows):
        for across, cell in enumerate(row):
            if not cell:
                continue
            seen.update(cell)
            held = tuple(page.lines[number] for number in cell)
            region = _text_region(
                page, f"{name}_cell_{down}_{across}", _rectangle(box_around(held)), list(cell)
            )
            role = element("TableCellRole", {"rowIndex": down, "columnIndex": across})
            region.insert(1, element("Roles", None, role))
            cells.append(region)
    for number in range(block.first, block.end):
        if number not in seen:
            line = page.lines[number]
            cells.append(
                _text_region(page, f"{name}_line_{number}", _rectangle(line.box), [number])
            )
    attributes = {
        "id": name,
        "rows": len(block.rows),
        "columns": max(map(len, block.rows), default=0),
    }
    return element("TableRegion", attributes, _coords(_rectangle(block.box)), *cells)


def _text_region(
    page: PageText, name: str, corners: tuple[Point, ...], numbers: list[int], **more: object
) -> Element:
    text = "\n".join(page.lines[number].text for number in numbers)
    return element(
        "TextRegion",
        {"id": name, **more},
        _coords(corners),
        *(_line(page.lines[number], number) for number in numbers),
        _equivalent(text),
    )


def _line(line: PageLine, number: int) -> Element:
    axes = frame(line)
    return element(
        "TextLine",
        {"id": f"line_{number + 1}"},
        _coords(line.polygon),
        _baseline(axes),
        *(
            _word(word, f"word_{number + 1}_{place}", line.confidence)
            for place, word in enumerate(words(line), 1)
        ),
        _equivalent(line.text, line.confidence),
    )


def _word(word: Word, name: str, confidence: float) -> Element:
    return element("Word", {"id": name}, _coords(word.polygon), _equivalent(word.text, confidence))


def _equivalent(text: str, confidence: float | None = None) -> Element:
    conf = None if confidence is None else f"{min(max(confidence, 0), 1):.4f}"
    return element("TextEquiv", {"conf": conf}, element("Unicode", text=text))


def _coords(corners: tuple[Point, ...]) -> Element:
    return element("Coords", {"points": points(corners)})


def _baseline(axes: Frame) -> Element:
    foot = 1 - DESCENT
    return element("Baseline", {"points": points((axes.at(0, foot), axes.at(1, foot)))})


def _rectangle(box: tuple[float, float, float, float]) -> tuple[Point, ...]:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)
