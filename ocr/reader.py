"""One page in, what it says out: draws it, chooses the engine, reads, and times it.

Free of Django, so that a spawned process reads pages without it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

from mlops.engines import EngineCache
from mlops.exceptions import EngineUnavailable, JobFailed
from ocr import auto, routing
from ocr.attempt import read_upright
from ocr.engines.base import Reading
from ocr.languages import AUTO
from ocr.layout import Layout, lay_out, page_text
from ocr.layout.geometry import page_skew
from ocr.orientation import confidence, text_rotation, turned_lines
from ocr.page_image import PageImage
from ocr.page_source import BadPage, PageSource
from ocr.routing import Choice

# Stands as the engine of pages whose text was taken from the PDF.
TEXT_LAYER = "text-layer"
IGNORE_LAYER = "ignore"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """How pages are to be read; `engine` may be "auto", `languages` ("auto",).

    `text_layer`: "use" takes the text of a PDF's page where it is good, "ignore" reads every page
    as an image. `rotate`: pages that lie on their side or stand on their head are put upright.
    """

    engine: str
    languages: tuple[str, ...]
    default_engine: str
    text_layer: str = "use"
    rotate: bool = True


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """What became of one page. `lines` and `blocks` are plain JSON, as PageResult keeps them."""

    width: int = 0
    height: int = 0
    dpi: int | None = None
    rotation: int = 0
    skew: float = 0.0
    engine: str = ""
    language: str = ""
    model_version: str = ""
    device: str = ""
    seconds: float = 0.0
    text: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    mean_confidence: float | None = None
    note: str = ""
    error: str = ""


def read_page(
    source: PageSource, index: int, request: ReadRequest, engines: EngineCache
) -> PageOutcome:
    """Reads page `index` (from 0). One that can't be drawn or read is an outcome with `error`.

    Raises EngineUnavailable, which concerns every page.
    """
    started = time.perf_counter()
    try:
        outcome = read_text_layer(source, index, request)
        if outcome is None:
            outcome = read_image(source.render(index), request, engines)
    except EngineUnavailable:
        raise
    except (BadPage, JobFailed) as error:
        outcome = PageOutcome(error=str(error))
    return replace(outcome, seconds=time.perf_counter() - started)


def read_text_layer(source: PageSource, index: int, request: ReadRequest) -> PageOutcome | None:
    """What page `index` (from 0) itself says; None if it must be drawn and read. Raises BadPage."""
    if request.text_layer == IGNORE_LAYER:
        return None
    started = time.perf_counter()
    layer = source.text_layer(index)
    if layer is None:
        return None
    rotation = text_rotation(layer.lines) if request.rotate else 0
    size = (layer.width, layer.height)
    reading = Reading(
        turned_lines(layer.lines, rotation, *size), "+".join(request.languages), layer.model_version
    )
    outcome = _outcome(size if rotation in (0, 180) else size[::-1], layer.dpi, rotation, reading)
    return replace(
        outcome, engine=TEXT_LAYER, device="cpu pdfium", seconds=time.perf_counter() - started
    )


def read_image(page: PageImage, request: ReadRequest, engines: EngineCache) -> PageOutcome:
    """Reads a page that is already drawn. Raises EngineUnavailable and JobFailed."""
    started = time.perf_counter()
    choice = choose_engine(request, engines)
    reading = engines.get(choice.engine).read(page.array(), languages=choice.languages)
    outcome = finish_image(page, choice, reading, request, engines)
    return replace(outcome, seconds=time.perf_counter() - started)


def choose_engine(request: ReadRequest, engines: EngineCache) -> Choice:
    """Which engine reads first, and in which languages. Raises ApplicationError if none can."""
    return routing.choose(
        engines.specs,
        engine=request.engine,
        languages=request.languages,
        default=request.default_engine,
    )


def finish_image(
    page: PageImage,
    choice: Choice,
    reading: Reading,
    request: ReadRequest,
    engines: EngineCache,
) -> PageOutcome:
    """All that follows the first reading: the page put upright, another script tried, layout.

    The outcome's `seconds` are left to the caller.
    """
    read = read_upright(page, choice, engines, rotate=request.rotate, reading=reading)
    if AUTO in request.languages:
        free = request.engine == AUTO
        read = auto.improved(read, free=free, rotate=request.rotate, engines=engines)
    size = (read.page.width, read.page.height)
    notes = [read.choice.note]
    if read.rotation:
        notes.append(f"The page was turned by {read.rotation} degrees to stand upright.")
    return replace(
        _outcome(size, page.dpi, read.rotation, read.reading),
        engine=read.choice.engine,
        device=engines.get(read.choice.engine).device,
        note=" ".join(filter(None, notes)),
    )


def _outcome(
    size: tuple[int, int], dpi: int | None, rotation: int, reading: Reading
) -> PageOutcome:
    """The reading laid out on the upright page of that size; who read it is left open."""
    layout = lay_out(reading.lines, *size)
    return PageOutcome(
        width=size[0],
        height=size[1],
        dpi=dpi,
        rotation=rotation,
        skew=round(math.degrees(page_skew(layout.lines)), 2),
        language=reading.language,
        model_version=reading.model_version,
        text=page_text(layout),
        lines=_plain_lines(layout),
        blocks=_plain_blocks(layout),
        mean_confidence=round(confidence(layout.lines), 4) if layout.lines else None,
    )


def _plain_lines(layout: Layout) -> list[dict[str, Any]]:
    plain = []
    for line in layout.lines:
        one: dict[str, Any] = {
            "text": line.text,
            "confidence": round(line.confidence, 4),
            "polygon": [[round(x, 1), round(y, 1)] for x, y in line.polygon],
        }
        if line.spans:
            one["spans"] = [[round(begin, 4), round(end, 4)] for begin, end in line.spans]
        plain.append(one)
    return plain


def _plain_blocks(layout: Layout) -> list[dict[str, Any]]:
    return [
        {
            "kind": block.kind,
            "level": block.level,
            "box": [round(value, 1) for value in block.box],
            "lines": [block.first, block.end],
            "rows": [[list(cell) for cell in row] for row in block.rows],
        }
        for block in layout.blocks
    ]
