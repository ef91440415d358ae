"""One page in, what it says out: draws it, chooses the engine, reads, and times it.

Free of Django, so that a spawned process reads pages without it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from mlops.engines import EngineCache
from mlops.exceptions import EngineUnavailable, JobFailed
from ocr import auto, routing
from ocr.engines.base import Reading
from ocr.languages import AUTO
from ocr.layout import Layout, lay_out, page_text
from ocr.pages import BadPage, PageImage, PageSource


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """How pages are to be read; `engine` may be "auto", `languages` ("auto",)."""

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
        page = source.render(index)
        return _read(page, request, engines, started)
    except EngineUnavailable:
        raise
    except (BadPage, JobFailed) as error:
        return PageOutcome(error=str(error), seconds=time.perf_counter() - started)


def _read(
    page: PageImage, request: ReadRequest, engines: EngineCache, started: float
) -> PageOutcome:
    image = page.array()
    choice = routing.choose(
        engines.specs,
        engine=request.engine,
        languages=request.languages,
        default=request.default_engine,
    )
    if AUTO in request.languages:
        choice, reading = auto.read(image, choice, free=request.engine == AUTO, engines=engines)
    else:
        reading = engines.get(choice.engine).read(image, languages=choice.languages)
    layout = lay_out(reading.lines, page.width, page.height)
    return PageOutcome(
        width=page.width,
        height=page.height,
        dpi=page.dpi,
        engine=choice.engine,
        language=reading.language,
        model_version=reading.model_version,
        device=engines.get(choice.engine).device,
        seconds=time.perf_counter() - started,
        text=page_text(layout),
        lines=_plain_lines(layout),
        blocks=_plain_blocks(layout),
        mean_confidence=_mean(reading),
        note=choice.note,
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


def _mean(reading: Reading) -> float | None:
    """Over characters, so that a stray mark counts less than a line of text; None without any."""
    weights = sum(len(line.text) for line in reading.lines)
    if not weights:
        return None
    total = sum(line.confidence * len(line.text) for line in reading.lines)
    return round(total / weights, 4)
