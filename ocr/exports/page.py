"""One page's result as the writers of formats take it, whoever read or corrected it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ocr.languages import AUTO
from ocr.models import OcrJob, PageResult
from ocr.results import content

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Cell = tuple[int, ...]

# What no XML document may hold, and no other format needs.
_UNPRINTABLE = re.compile(r"[^\t\n\f\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Rows held in memory at a time: a page of dense print is about 100 kB of lines.
_CHUNK = 16


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line of text; `polygon` and `spans` as in PageResult."""

    text: str
    confidence: float
    polygon: tuple[Point, ...]
    spans: tuple[tuple[float, float], ...] = ()

    @property
    def box(self) -> Box:
        return box_of(self.polygon)


@dataclass(frozen=True, slots=True)
class PageBlock:
    """Lines `first` to `end` (exclusive); `level` and `rows` as in PageResult."""

    kind: str
    first: int
    end: int
    box: Box
    level: int = 0
    rows: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PageText:
    """A page's text with its places: pixels of the page put upright by `rotation`.

    `blocks` divide `lines` without a gap, both in reading order. With `error` there are neither.
    """

    number: int
    width: int
    height: int
    dpi: int | None = None
    rotation: int = 0
    skew: float = 0.0
    text: str = ""
    lines: tuple[PageLine, ...] = ()
    blocks: tuple[PageBlock, ...] = ()
    engine: str = ""
    model_version: str = ""
    language: str = ""
    mean_confidence: float | None = None
    error: str = ""

    @property
    def languages(self) -> tuple[str, ...]:
        """ISO 639 codes, with a script where one language has two."""
        return _codes(self.language)


@dataclass(frozen=True, slots=True)
class JobPages:
    """The pages of a job in order; each loop over them reads the rows anew, a few at a time."""

    job: OcrJob

    def __len__(self) -> int:
        return self.job.results.count()

    def __iter__(self) -> Iterator[PageText]:
        return map(page_text, self.results())

    def languages(self) -> tuple[str, ...]:
        """Of all pages, in no order that means anything."""
        read = self.job.results.values_list("language", flat=True).distinct()
        return tuple(sorted({code for language in read for code in _codes(language)}))

    def results(self) -> Iterator[PageResult]:
        rows = self.job.results.select_related("page", "review").order_by("page__number")
        return rows.iterator(chunk_size=_CHUNK)


def page_text(result: PageResult) -> PageText:
    """What is written for a page, in people's words where they have corrected it."""
    said = content(result, corrected=True)
    lines = tuple(_line(line) for line in said.lines)
    return PageText(
        number=result.page.number,
        width=result.width,
        height=result.height,
        dpi=result.dpi,
        rotation=result.rotation,
        skew=result.skew,
        text=_UNPRINTABLE.sub("", said.text),
        lines=lines,
        blocks=_blocks(said.blocks, lines),
        engine=result.engine,
        model_version=result.model_version,
        language=result.language,
        mean_confidence=result.mean_confidence,
        error=result.error,
    )


def _codes(language: str) -> tuple[str, ...]:
    return tuple(code for code in language.split("+") if code not in ("", AUTO))


def box_of(points: tuple[Point, ...]) -> Box:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def box_around(lines: tuple[PageLine, ...]) -> Box:
    return box_of(tuple(point for line in lines for point in line.polygon))


def _line(line: dict[str, Any]) -> PageLine:
    return PageLine(
        text=_UNPRINTABLE.sub("", line["text"]),
        confidence=line["confidence"],
        polygon=tuple((x, y) for x, y in line["polygon"]),
        spans=tuple((begin, end) for begin, end in line.get("spans", ())),
    )


def _blocks(stored: list[dict[str, Any]], lines: tuple[PageLine, ...]) -> tuple[PageBlock, ...]:
    """The stored blocks; lines that none of them holds become blocks of text of their own."""
    blocks: list[PageBlock] = []
    done = 0
    for block in sorted(stored, key=lambda one: one["lines"][0]):
        first, end = block["lines"]
        if first > done:
            blocks.append(_plain_block(lines, done, first))
        blocks.append(
            PageBlock(
                kind=block["kind"],
                first=first,
                end=end,
                box=tuple(block["box"]),
                level=block["level"],
                rows=tuple(tuple(tuple(cell) for cell in row) for row in block["rows"]),
            )
        )
        done = end
    if done < len(lines):
        blocks.append(_plain_block(lines, done, len(lines)))
    return tuple(blocks)


def _plain_block(lines: tuple[PageLine, ...], first: int, end: int) -> PageBlock:
    return PageBlock("text", first, end, box_around(lines[first:end]))
