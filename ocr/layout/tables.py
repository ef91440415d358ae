"""Tables from geometry alone: rows whose cells stand under each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocr.layout.geometry import Placed, Scale

PlacedRow = list[Placed]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows `first` to `end` (exclusive) of a part, and the cells of each, left to right."""

    first: int
    end: int
    cells: tuple[tuple[tuple[Placed, ...], ...], ...]


def tables_in(rows: Sequence[PlacedRow], scale: Scale) -> list[Table]:
    """The tables among the rows of one column."""
    found, start = [], 0
    while start < len(rows):
        end = _run(rows, start, scale.body)
        table = _table(rows, start, end) if end - start > 1 else None
        if table:
            found.append(table)
        start = max(end, start + 1)
    return found


def _run(rows: Sequence[PlacedRow], start: int, body: float) -> int:
    """Where the run of rows ends that begins at `start` with several cells.

    One row of a single cell may stand between two of several: receipts have an item's name above
    its price.
    """
    end = start
    for number in range(start, len(rows)):
        if number > start and _bottom_gap(rows[number - 1], rows[number]) > 2.5 * body:
            break
        if len(rows[number]) > 1:
            end = number + 1
        elif number > end:
            break
    return end


def _bottom_gap(upper: PlacedRow, lower: PlacedRow) -> float:
    return min(one.top for one in lower) - max(one.bottom for one in upper)


def _table(rows: Sequence[PlacedRow], first: int, end: int) -> Table | None:
    several = [row for row in rows[first:end] if len(row) > 1]
    edges = _column_edges(several)
    if len(several) * len(edges) < 3:
        return None
    cells = tuple(_cells(row, edges) for row in rows[first:end])
    if sum(sum(map(bool, row)) > 1 for row in cells) < 2:
        return None
    return Table(first, end, cells)


def _column_edges(rows: Sequence[PlacedRow]) -> list[float]:
    """The middles of the gaps that part the columns: a third of the rows may reach across."""
    bounds = sorted(
        [(one.left, 1) for row in rows for one in row]
        + [(one.right, -1) for row in rows for one in row]
    )
    most = len(rows) // 3
    edges: list[float] = []
    depth, low = 0, None
    for x, step in bounds:
        if step > 0 and depth <= most and low is not None:
            edges.append((low + x) / 2)
            low = None
        depth += step
        if step < 0 and depth <= most:
            low = x
    return edges


def _cells(row: PlacedRow, edges: Sequence[float]) -> tuple[tuple[Placed, ...], ...]:
    cells: list[list[Placed]] = [[] for _ in range(len(edges) + 1)]
    for one in row:
        cells[sum(edge < one.centre for edge in edges)].append(one)
    return tuple(map(tuple, cells))
