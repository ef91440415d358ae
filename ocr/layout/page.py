"""A page laid out: its lines in reading order, divided into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ocr.engines.base import Line
from ocr.layout.blocks import Block, Layout
from ocr.layout.columns import column_parts
from ocr.layout.geometry import Placed, Scale, page_skew, place, scale_of
from ocr.layout.paragraphs import Paragraph, one_heading, paragraphs_in
from ocr.layout.rows import rows_of, rows_text
from ocr.layout.tables import Table, tables_in

# A line so many times as high as wide, and as high as so many lines of text, runs up the margin.
_UPENDED = 2.0
_LONG_UP = 2.5


def lay_out(lines: Iterable[Line], width: int, height: int) -> Layout:
    """`lines` in any order, on a page of `width` by `height` pixels.

    A line that a detector drew across two columns comes out as two.
    """
    lines = tuple(lines)
    skew = page_skew(lines)
    placed = [place(line, skew) for line in lines]
    scale = scale_of(placed, skew)
    ordered: list[Line] = []
    blocks: list[Block] = []
    for piece in _joined(
        piece for part in _parts(placed, scale) for piece in _pieces(rows_of(part), scale)
    ):
        blocks.append(_block(piece, len(ordered)))
        ordered += [one.line for row in _rows(piece) for one in row]
    return Layout(tuple(ordered), tuple(blocks))


def page_text(layout: Layout) -> str:
    """The page's text in reading order: a row of the page a line, blocks an empty line apart."""
    skew = page_skew(layout.lines)
    return "\n\n".join(
        rows_text(layout.lines[block.first : block.end], skew) for block in layout.blocks
    )


def _parts(placed: list[Placed], scale: Scale) -> list[list[Placed]]:
    """Columns, and then what runs up the margins, which would close the gutters that it stands in.

    A page most of which runs so is another script's, not a margin.
    """
    upended = [
        one for one in placed if one.height > max(_UPENDED * one.width, _LONG_UP * scale.body)
    ]
    if 2 * len(upended) > len(placed):
        upended = []
    aside = set(map(id, upended))
    upright = [one for one in placed if id(one) not in aside]
    return [*column_parts(upright, scale), *([one] for one in upended)]


def _pieces(rows: list[list[Placed]], scale: Scale) -> Iterator[Paragraph | Table]:
    start = 0
    for table in tables_in(rows, scale):
        yield from paragraphs_in(rows[start : table.first], scale)
        yield table
        start = table.end
    yield from paragraphs_in(rows[start:], scale)


def _joined(pieces: Iterable[Paragraph | Table]) -> list[Paragraph | Table]:
    """The pieces with the lines of one headline together."""
    joined: list[Paragraph | Table] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        headings = isinstance(last, Paragraph) and isinstance(piece, Paragraph)
        if headings and one_heading(last, piece):
            joined[-1] = Paragraph(last.rows + piece.rows, last.level)
        else:
            joined.append(piece)
    return joined


def _rows(piece: Paragraph | Table) -> Sequence[Sequence[Placed]]:
    if isinstance(piece, Table):
        return [[one for cell in row for one in cell] for row in piece.cells]
    return piece.rows


def _block(piece: Paragraph | Table, first: int) -> Block:
    rows = _rows(piece)
    points = [point for row in rows for one in row for point in one.line.polygon]
    xs, ys = zip(*points, strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    end = first + sum(len(row) for row in rows)
    if isinstance(piece, Paragraph):
        return Block("heading" if piece.level else "text", first, end, box, piece.level)
    return Block("table", first, end, box, rows=_numbered(piece, first))


def _numbered(table: Table, first: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The table's cells as numbers of lines, of which the first is `first`."""
    rows, number = [], first
    for row in table.cells:
        cells = []
        for cell in row:
            cells.append(tuple(range(number, number + len(cell))))
            number += len(cell)
        rows.append(tuple(cells))
    return tuple(rows)
