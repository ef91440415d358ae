"""A document as the rules look at it: its rows, and what stands beside or below a label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from llm.extraction.amounts import Amount, amounts_in
from llm.extraction.base import PageText, TextLine
from llm.extraction.dates import month_comes_first
from llm.extraction.rows import Row, rows_of

# A value stands no further below its label than so many heights of it.
BELOW = 3.0


@dataclass(frozen=True, slots=True)
class Hit:
    """A value in the words of the page, the lines that it was taken from, and how likely it is."""

    text: str
    lines: tuple[TextLine, ...]
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """What follows a label on its row (`beside`) and the nearest text below it.

    `head`: it is one of several labels side by side, each with its value below.
    """

    row: Row
    label: str
    beside: Hit
    below: Hit | None
    head: bool = False

    @property
    def hits(self) -> list[Hit]:
        """Where the value may stand, the likelier first."""
        order = (self.below, self.beside) if self.head else (self.beside, self.below)
        return [hit for hit in order if hit is not None and hit.text]


@dataclass(slots=True)
class Sheet:
    """All rows of a document, page after page."""

    rows: list[Row]
    month_first: bool = False
    # Whether sums here have two decimals: elsewhere (won, yen) a whole number is a sum.
    cents: bool = True
    height: float = field(default=1.0)

    def amounts(self, text: str) -> list[Amount]:
        """The sums of money in a text."""
        found = amounts_in(text)
        if self.cents:
            return [one for one in found if one.money]
        return [one for one in found if one.currency or one.decimals in (0, 2)]

    def labelled(self, labels: Iterable[str]) -> Iterator[Labelled]:
        """Every place of each label, the labels in their order."""
        for label in labels:
            look = label_pattern(label)
            for number, row in enumerate(self.rows):
                match = look.search(row.text)
                if match is not None:
                    yield self._labelled(number, label, match.start(), match.end())

    def _labelled(self, number: int, label: str, start: int, end: int) -> Labelled:
        row = self.rows[number]
        rest = re.sub(r"^[\s:：.=\-|)\]]+", "", row.text[end:])  # noqa: RUF001 (full-width colon)
        lines = lines_at(row, len(row.text) - len(rest), len(row.text)) if rest else ()
        labels = lines_at(row, start, end)
        below = self._below(number, labels)
        head = bool(below and lines and lines[0] not in labels and self._below(number, lines[:1]))
        return Labelled(row, label, Hit(rest, lines), below, head)

    def _below(self, number: int, labels: Sequence[TextLine]) -> Hit | None:
        left = min(line.box[0] for line in labels)
        right = max(line.box[2] for line in labels)
        low = max(line.box[3] for line in labels)
        height = max(line.box[3] - line.box[1] for line in labels)
        for row in self.rows[number + 1 : number + 3]:
            if row.page != labels[0].page:
                return None
            for line in row.lines:
                x, top, x2, _low = line.box
                if x < right and x2 > left and top - low < BELOW * height:
                    return Hit(line.text, (line,))
        return None


def sheet_of(pages: Sequence[PageText]) -> Sheet:
    rows = [row for page in pages for row in rows_of(page)]
    numbers = [amount for row in rows for amount in amounts_in(row.text)]
    cents = sum(one.decimals == 2 for one in numbers)
    whole = sum(one.decimals == 0 and abs(one.value) >= 100 for one in numbers)
    won = any(one.currency in ("원", "₩", "￦", "KRW") for one in numbers)
    heights = sorted(line.box[3] - line.box[1] for row in rows for line in row.lines)
    return Sheet(
        rows,
        month_comes_first(row.text for row in rows),
        cents > 0 and not (won and whole > cents),
        heights[len(heights) // 2] if heights else 1.0,
    )


def lines_at(row: Row, start: int, end: int) -> tuple[TextLine, ...]:
    """The lines that hold characters [start, end) of the row's text."""
    found, at = [], 0
    for line in row.lines:
        if at < end and at + len(line.text) > start:
            found.append(line)
        at += len(line.text) + 1
    return tuple(found)


@cache
def label_pattern(label: str) -> re.Pattern[str]:
    """The label in a text: any case, any punctuation between words, blanks between Hangul."""
    if any("가" <= letter <= "힣" for letter in label):
        body = r"\s*".join(map(re.escape, label.replace(" ", "")))
        return re.compile(body)
    body = r"[\W_]*".join(re.escape(word) for word in label.split())
    return re.compile(rf"(?<![^\W_]){body}(?![^\W\d_])", re.IGNORECASE)


def up_to_label(text: str) -> str:
    """ "Kim Minji  Date: 3 May" is "Kim Minji"."""
    return re.split(r"\s+[\w./]+(?:\s\w+)?\s?[:：]|\s{2,}|\|", text)[0].strip(" .,-")  # noqa: RUF001
