"""Cuts a page into passages along its blocks and lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm.retrieval.terms import size

# Tokens, about: enough for a thought, few enough that a passage is about one thing.
TARGET = 200
# Repeated at the head of a passage that goes on in the middle of a block.
OVERLAP = 40
# Of any change to what passages are made of: what was cut by another version is cut anew.
VERSION = 1

Box = list[int]


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines `first` to `last` (from 0, both included) of a page, as `llm.models.Chunk` has them."""

    text: str
    heading: str
    first: int
    last: int
    lines: list[dict[str, Any]]
    box: Box


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    block: int
    text: str
    size: int
    heading: str
    begins_section: bool


def passages(
    lines: Sequence[Mapping[str, Any]], blocks: Sequence[Mapping[str, Any]]
) -> list[Passage]:
    """A page's passages in reading order; `lines` and `blocks` as PageResult keeps them."""
    return [_passage(group, lines) for group in _groups(list(_annotated(lines, blocks)))]


def _groups(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    group: list[_Line] = []
    held = 0
    for line in lines:
        full = held + line.size > TARGET
        # A section of some length begins a passage of its own.
        if group and (full or (line.begins_section and held > TARGET / 2)):
            yield group
            group = _carried(group, line)
            held = sum(one.size for one in group)
        group.append(line)
        held += line.size
    if group:
        yield group


def _carried(group: Sequence[_Line], following: _Line) -> list[_Line]:
    """The last lines of the passage before, where its block goes on."""
    kept: list[_Line] = []
    room = OVERLAP
    for line in reversed(group[1:]):
        if line.block != following.block or line.size > room:
            break
        room -= line.size
        kept.insert(0, line)
    return kept


def _annotated(
    lines: Sequence[Mapping[str, Any]], blocks: Sequence[Mapping[str, Any]]
) -> Iterator[_Line]:
    """The lines that say anything, each with the headings above it."""
    divided = blocks or [{"kind": "text", "level": 0, "lines": [0, len(lines)]}]
    above: dict[int, str] = {}
    after_heading = False
    for number, block in enumerate(divided):
        first, end = block["lines"]
        is_heading = block["kind"] == "heading"
        if is_heading:
            # It ends what stood under headings of its own level.
            above = {one: text for one, text in above.items() if one < (block["level"] or 1)}
        standing = " > ".join(above[level] for level in sorted(above))
        begins = is_heading and not after_heading
        for place in range(first, end):
            text = unicodedata.normalize("NFC", lines[place]["text"]).strip()
            if text:
                yield _Line(place, number, text, size(text), standing, begins and place == first)
        if is_heading:
            said = " ".join(lines[place]["text"].strip() for place in range(first, end))
            above[block["level"] or 1] = unicodedata.normalize("NFC", said)
        after_heading = is_heading


def _passage(group: Sequence[_Line], lines: Sequence[Mapping[str, Any]]) -> Passage:
    placed = []
    start = 0
    for line in group:
        placed.append(
            {"line": line.number, "start": start, "box": _box(lines[line.number]["polygon"])}
        )
        start += len(line.text) + 1
    boxes = [one["box"] for one in placed]
    return Passage(
        text="\n".join(line.text for line in group),
        heading=group[0].heading,
        first=min(line.number for line in group),
        last=max(line.number for line in group),
        lines=placed,
        box=around(boxes),
    )


def around(boxes: Sequence[Box]) -> Box:
    """The box around all of them."""
    lefts, tops, rights, lows = zip(*boxes, strict=True)
    return [min(lefts), min(tops), max(rights), max(lows)]


def _box(polygon: Sequence[Sequence[float]]) -> Box:
    xs, ys = zip(*polygon, strict=True)
    return [round(min(xs)), round(min(ys)), round(max(xs)), round(max(ys))]
