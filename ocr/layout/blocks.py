"""What a laid-out page is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocr.engines.base import Line


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `first` to `end` (exclusive) of a layout, which belong together.

    `level`: of a heading 1 to 3, else 0. `box`: left, top, right, bottom in pixels. `rows`: a
    table's rows of cells, each cell the numbers of its lines; every row has as many cells, and
    one that is empty has no lines.
    """

    kind: Literal["text", "heading", "table"]
    first: int
    end: int
    box: tuple[float, float, float, float]
    level: int = 0
    rows: tuple[tuple[tuple[int, ...], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """A page's lines in reading order, and the blocks that divide them."""

    lines: tuple[Line, ...]
    blocks: tuple[Block, ...]
