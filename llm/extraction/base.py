"""What an extraction engine is given and gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Point = tuple[float, float]
Polygon = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of a page; `page` and `index` (from 0, in reading order) say which.

    `polygon` and `spans` as in `ocr.engines.base.Line`, in pixels of the upright page.
    """

    page: int
    index: int
    text: str
    polygon: Polygon
    spans: tuple[tuple[float, float], ...] = ()

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        across = [x for x, _y in self.polygon]
        down = [y for _x, y in self.polygon]
        return min(across), min(down), max(across), max(down)


@dataclass(frozen=True, slots=True)
class PageText:
    """A page's lines in reading order; `number` counts from 1."""

    number: int
    lines: tuple[TextLine, ...]
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What to extract: a JSON Schema of an object, in words, and by examples.

    An example is {"text": …, "values": {…}}.
    """

    schema: Mapping[str, Any]
    instructions: str = ""
    examples: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """`values` follow the schema as far as the text holds them; `problems` say where they don't.

    `sources` names the lines that an engine took a value from, by JSON pointer, where it knows.
    Tokens are those of all `tries` of all `windows`; 0 for an engine without a model.
    """

    values: dict[str, Any]
    problems: tuple[Mapping[str, str], ...] = ()
    sources: Mapping[str, tuple[TextLine, ...]] = field(default_factory=dict)
    tries: int = 1
    windows: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ExtractionEngine(Protocol):
    """Finds values in the text of a document. Safe from several threads."""

    name: str

    def extract(self, pages: Sequence[PageText], task: Task) -> Extraction:
        """Raises JobFailed where nothing can be made of the text or of the model's answer."""
        ...


def page_of(number: int, lines: Sequence[Mapping[str, Any]], *, size: tuple[int, int]) -> PageText:
    """A page from lines as `ocr.models.PageResult` keeps them; `size` is (width, height)."""
    return PageText(
        number,
        tuple(
            TextLine(
                number,
                index,
                line["text"],
                tuple((x, y) for x, y in line["polygon"]),
                tuple((start, end) for start, end in line.get("spans", ())),
            )
            for index, line in enumerate(lines)
        ),
        *size,
    )
