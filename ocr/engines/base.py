"""What every OCR engine is given and gives back.

An engine module is pure: no ORM, no settings, no tracking. It imports its library only when an
engine is built, so that its class can be read where the library is not installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]
Polygon = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text as an engine saw it.

    `polygon`: at least four points, clockwise from the top left, in pixels of the page image.
    `confidence`: 0 to 1. `spans`: for each word of `text` (split at white space) where it begins
    and ends along the line, as shares of its length from 0 to 1; empty if the engine can't tell.
    """

    text: str
    confidence: float
    polygon: Polygon
    spans: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The lines of one page in any order, and what read them.

    `unread`: boxes in which the engine saw text and could make nothing of it; None if it can't
    tell.
    """

    lines: tuple[Line, ...]
    language: str
    model_version: str
    unread: tuple[Polygon, ...] | None = None


class OcrEngine(Protocol):
    """Reads one page image at a time; safe to call from several threads.

    `name` is the library's name, `requirements` the file under requirements/ that installs it.
    `languages` are ISO 639-1 codes (with a script where it matters: zh-Hans, zh-Hant).
    `latin_first`: asked for "auto" it looks for Latin letters alone, though it knows more scripts.
    `tells_scripts`: it has `detect_script` and `installed`, to read what another engine can't.
    `batches`: it has `read_many(images, languages=)`, which reads several pages at less than the
    price of each alone.
    Every engine is built with `threads`, what one page may use, and `device` among its options.
    """

    name: ClassVar[str]
    requirements: ClassVar[str]
    languages: ClassVar[frozenset[str]]
    latin_first: ClassVar[bool]
    tells_scripts: ClassVar[bool]

    batches: bool
    device: str
    model_version: str

    def read(self, image: np.ndarray, *, languages: tuple[str, ...]) -> Reading:
        """`image`: RGB, uint8, shape (height, width, 3). Raises ValueError on any other."""
        ...

    def close(self) -> None: ...
