"""A page's blocks and text after its lines were corrected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ocr.engines.base import Line
from ocr.layout import Block, Layout, page_text
from ocr.review_lines import LineDict

BlockDict = dict[str, Any]


def review_text(lines: Sequence[LineDict], blocks: Sequence[BlockDict]) -> str:
    """The corrected page as plain text, put together as an engine's own page is."""
    return page_text(
        Layout(
            tuple(_line(line) for line in lines),
            tuple(_block(block) for block in blocks or _one_block(lines)),
        )
    )


def blocks_after(
    blocks: Sequence[BlockDict], before: Sequence[str], lines: Sequence[LineDict]
) -> list[BlockDict]:
    """The blocks once the lines of ids `before` have become `lines`.

    A line stays in its block; a new one joins the block of the line before it, and so does one
    that was moved away from its own. A block without lines is gone.
    """
    if not blocks or not lines:
        return []
    owner = {before[n]: b for b, block in enumerate(blocks) for n in range(*block["lines"])}
    runs = _runs([owner.get(line["id"]) for line in lines])
    kept, first = [], 0
    for block, count in runs:
        members = lines[first : first + count]
        kept.append(_rebuilt(blocks[block], before, members, first))
        first += count
    return kept


def _runs(owners: list[int | None]) -> list[tuple[int, int]]:
    """(block, how many lines) down the page, each block once: strays join the run above them."""
    runs = _grouped([(owner, 1) for owner in owners])
    while len(runs) > 1:
        times = Counter(owner for owner, _ in runs)
        strays = [n for n, (owner, _) in enumerate(runs) if owner is None or times[owner] > 1]
        if not strays:
            break
        # Those of no block at first; then, of a block in several runs, the longest stays.
        stray = min(strays, key=lambda n: (runs[n][0] is not None, runs[n][1]))
        host = runs[stray - 1 if stray else 1][0]
        runs[stray] = (host, runs[stray][1])
        runs = _grouped(runs)
    return [(owner or 0, count) for owner, count in runs]


def _grouped(runs: list[tuple[int | None, int]]) -> list[tuple[int | None, int]]:
    return [
        (owner, sum(count for _, count in group))
        for owner, group in groupby(runs, key=lambda run: run[0])
    ]


def _rebuilt(
    block: BlockDict, before: Sequence[str], members: Sequence[LineDict], first: int
) -> BlockDict:
    xs, ys = zip(*(point for line in members for point in line["polygon"]), strict=True)
    ids = [line["id"] for line in members]
    rows = _rows(block["rows"], before, ids, first)
    kind = "text" if block["kind"] == "table" and not rows else block["kind"]
    return {
        **block,
        "kind": kind,
        "lines": [first, first + len(ids)],
        "box": [min(xs), min(ys), max(xs), max(ys)],
        "rows": rows,
    }


def _rows(
    rows: Sequence[Sequence[Sequence[int]]],
    before: Sequence[str],
    ids: Sequence[str],
    first: int,
) -> list[list[list[int]]]:
    """A table's cells in the new numbers; a new line stands in the cell of the one before it."""
    place = {
        before[n]: (r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) for n in cell
    }
    filled: list[list[list[int]]] = [[[] for _ in row] for row in rows]
    here = next((place[one] for one in ids if one in place), None)
    if here is None:
        return []
    for number, one in enumerate(ids, first):
        here = place.get(one, here)
        filled[here[0]][here[1]].append(number)
    return [row for row in filled if any(row)]


def _line(line: LineDict) -> Line:
    polygon = tuple((x, y) for x, y in line["polygon"])
    spans = tuple((begin, end) for begin, end in line.get("spans", ()))
    return Line(line["text"], line["confidence"], polygon, spans)


def _block(block: BlockDict) -> Block:
    rows = tuple(tuple(tuple(cell) for cell in row) for row in block["rows"])
    left, top, right, low = block["box"]
    return Block(
        block["kind"], *block["lines"], (left, top, right, low), level=block["level"], rows=rows
    )


def _one_block(lines: Sequence[LineDict]) -> list[BlockDict]:
    """For results from before pages had blocks."""
    if not lines:
        return []
    xs, ys = zip(*(point for line in lines for point in line["polygon"]), strict=True)
    box = [min(xs), min(ys), max(xs), max(ys)]
    return [{"kind": "text", "level": 0, "lines": [0, len(lines)], "box": box, "rows": []}]
