"""Two readings of one page side by side: which words differ, and where they stand."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any, Literal

from rapidfuzz.distance import Indel

from mlops.exceptions import ApplicationError
from mlops.models import User
from ocr.models import OcrJob, PageResult
from ocr.scoring import cer

Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that follow one another in a row, all of them alike in both readings or none."""

    text: str
    differs: bool


@dataclass(slots=True)
class Row:
    """A line of A beside the words of B that stand for it, or a line that B alone has.

    `lines` are the numbers of the lines, from 0, that the words come from.
    """

    words: dict[Side, list[tuple[str, bool]]] = field(default_factory=lambda: {"a": [], "b": []})
    lines: dict[Side, set[int]] = field(default_factory=lambda: {"a": set(), "b": set()})

    @property
    def differs(self) -> bool:
        return any(differs for words in self.words.values() for _, differs in words)

    def pieces(self, side: Side) -> list[Piece]:
        runs = groupby(self.words[side], key=lambda word: word[1])
        return [Piece(" ".join(word for word, _ in run), differs) for differs, run in runs]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`cer` is B's against A, 0 to more than 1; the counts are of words."""

    rows: list[Row]
    cer: float
    words: dict[Side, int]
    differing: dict[Side, int]


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    line: int


def compare(a: PageResult, b: PageResult) -> Comparison:
    """Words are aligned in reading order with as many as possible in common, letter case counting.

    A page that was not read (`error`) has no words; its CER is 1.
    """
    ours, theirs = _words(a.lines), _words(b.lines)
    rows = list(_rows(ours, theirs))
    return Comparison(
        rows=rows,
        cer=cer(a.text, None if b.error else b.text),
        words={"a": len(ours), "b": len(theirs)},
        differing={side: sum(_differing(row.words[side]) for row in rows) for side in ("a", "b")},
    )


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The figures, and the rows that differ: text of both, and the lines it comes from."""
    return {
        "cer": comparison.cer,
        "words": comparison.words,
        "differing_words": comparison.differing,
        "differences": [
            {
                side: {
                    "text": " ".join(word for word, _ in row.words[side]),
                    "differing": [piece.text for piece in row.pieces(side) if piece.differs],
                    "lines": sorted(row.lines[side]),
                }
                for side in ("a", "b")
            }
            for row in comparison.rows
            if row.differs
        ],
    }


def _rows(ours: Sequence[_Word], theirs: Sequence[_Word]) -> Iterator[Row]:
    row, line = Row(), None
    # Insertions and deletions alone keep the most words in common; the others face each other.
    changes = Indel.opcodes([one.text for one in ours], [one.text for one in theirs])
    for mine, other, differs in _steps(changes, ours, theirs):
        starts = line if mine is None else mine.line
        if starts != line or (mine is None and _own_row(other, row)):
            if row.lines["a"] or row.lines["b"]:
                yield row
            row, line = Row(), starts
        for side, word in (("a", mine), ("b", other)):
            if word is not None:
                row.words[side].append((word.text, differs))
                row.lines[side].add(word.line)
    if row.lines["a"] or row.lines["b"]:
        yield row


def _steps(
    changes: Iterable[Any], ours: Sequence[_Word], theirs: Sequence[_Word]
) -> Iterator[tuple[_Word | None, _Word | None, bool]]:
    """Down both texts: a word of A, one of B, or both where they stand for each other."""
    for same, together in groupby(changes, key=lambda change: change.tag == "equal"):
        run = list(together)
        mine = ours[run[0].src_start : run[-1].src_end]
        other = theirs[run[0].dest_start : run[-1].dest_end]
        for one, its_like in zip_longest(mine, other):
            yield one, its_like, not same


def _own_row(other: _Word | None, row: Row) -> bool:
    """Whether a word that B alone has begins a line of which this row has nothing yet."""
    return other is not None and bool(row.lines["b"]) and other.line not in row.lines["b"]


def _differing(words: Iterable[tuple[str, bool]]) -> int:
    return sum(differs for _, differs in words)


def _words(lines: Iterable[dict[str, Any]]) -> list[_Word]:
    return [
        _Word(word, number)
        for number, line in enumerate(lines)
        for word in unicodedata.normalize("NFC", line["text"]).split()
    ]


@dataclass(frozen=True, slots=True)
class ComparedJobs:
    """Two jobs of one document."""

    a: OcrJob
    b: OcrJob

    def pairs(self, number: int | None = None) -> Iterator[tuple[PageResult, PageResult]]:
        """The pages that both have read or tried to, in order; with `number` that one alone."""
        found: dict[Side, dict[int, PageResult]] = {}
        for side, job in (("a", self.a), ("b", self.b)):
            results = job.results.select_related("page")
            if number is not None:
                results = results.filter(page__number=number)
            found[side] = {result.page.number: result for result in results}
        for page in sorted(found["a"].keys() & found["b"].keys()):
            yield found["a"][page], found["b"][page]

    def different(self) -> list[int]:
        """Numbers of the pages whose texts are not the same."""
        texts = dict(self.a.results.values_list("page__number", "text"))
        theirs = self.b.results.order_by("page__number").values_list("page__number", "text")
        return [page for page, text in theirs if page in texts and texts[page] != text]


def compared_jobs(user: User, a: uuid.UUID, b: uuid.UUID) -> ComparedJobs:
    """Raises ApplicationError if one isn't there for the user, or they read different documents."""
    found = OcrJob.objects.visible_to(user).select_related("document").in_bulk([a, b])
    for name, pk in (("a", a), ("b", b)):
        if pk not in found:
            raise ApplicationError(
                f"There is no job {pk}, or it isn't yours.",
                code="not_found",
                status=404,
                param=name,
            )
    if found[a].document_id != found[b].document_id:
        raise ApplicationError(
            "The jobs have read different documents. Choose two jobs of one document.",
            code="different_documents",
            param="b",
        )
    return ComparedJobs(found[a], found[b])
