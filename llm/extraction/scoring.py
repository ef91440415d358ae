"""Extracted values against the truth, field by field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Indel

from llm.extraction.amounts import parse_amount
from llm.extraction.dates import parse_date

# From here on two texts are the same but for misread characters.
FUZZY = 0.9


@dataclass(frozen=True, slots=True)
class FieldScore:
    """One field of one document; `similarity` is 1 for an exact match, 0 for none."""

    document: str
    field: str
    truth: Any
    value: Any
    exact: bool
    similarity: float

    @property
    def fuzzy(self) -> bool:
        return self.similarity >= FUZZY

    @property
    def missing(self) -> bool:
        return self.value in (None, "")


@dataclass(frozen=True, slots=True)
class FieldFigures:
    """A field over all documents that have a truth for it."""

    field: str
    documents: int
    exact: float
    fuzzy: float
    similarity: float
    missing: int
    wrong: int


def score(document: str, truth: Mapping[str, Any], values: Mapping[str, Any]) -> list[FieldScore]:
    """One score for each field of the truth that says something; an empty one says nothing."""
    scores = []
    for field, expected in truth.items():
        if expected in (None, "", [], {}):
            continue
        similarity = compare(expected, values.get(field))
        scores.append(
            FieldScore(document, field, expected, values.get(field), similarity == 1, similarity)
        )
    return scores


def compare(expected: Any, value: Any) -> float:
    """1 if both say the same: as dates, as sums, or as texts without case, blanks and punctuation.

    Else the normalised Indel similarity of two texts, and 0 where a date or sum is another.
    """
    if value in (None, ""):
        return 0.0
    for meaning in (_as_date, _as_sum):
        wanted = meaning(expected)
        if wanted is not None:
            return float(meaning(value) == wanted)
    a, b = normalised(str(expected)), normalised(str(value))
    return Indel.normalized_similarity(a, b) if a or b else 1.0


def figures(scores: Iterable[FieldScore]) -> list[FieldFigures]:
    """For each field, in the order in which they first come."""
    by_field: dict[str, list[FieldScore]] = {}
    for one in scores:
        by_field.setdefault(one.field, []).append(one)
    return [_figures(field, found) for field, found in by_field.items()]


def micro(scores: Iterable[FieldScore]) -> FieldFigures:
    """Over all values; `figures` averaged by field is the macro."""
    return _figures("micro", list(scores))


def macro(found: list[FieldFigures]) -> FieldFigures:
    count = len(found) or 1
    return FieldFigures(
        "macro",
        sum(one.documents for one in found),
        sum(one.exact for one in found) / count,
        sum(one.fuzzy for one in found) / count,
        sum(one.similarity for one in found) / count,
        sum(one.missing for one in found),
        sum(one.wrong for one in found),
    )


def normalised(text: str) -> str:
    """Letters and digits alone, without case."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", "", text)


def _figures(field: str, scores: list[FieldScore]) -> FieldFigures:
    count = len(scores) or 1
    return FieldFigures(
        field,
        len(scores),
        sum(one.exact for one in scores) / count,
        sum(one.fuzzy for one in scores) / count,
        sum(one.similarity for one in scores) / count,
        sum(one.missing for one in scores),
        sum(not (one.exact or one.missing) for one in scores),
    )


def _as_date(value: Any) -> Any:
    """A text that is a date and little else."""
    if not isinstance(value, str) or len(value) > 24:
        return None
    return parse_date(value)


def _as_sum(value: Any) -> Any:
    if isinstance(value, int | float):
        return parse_amount(f"{value:.2f}")
    if not isinstance(value, str) or not re.fullmatch(
        r"\W*[A-Z]{0,3}\W*[\d.,]+\W*[A-Z]{0,3}\W*", value
    ):
        return None
    return parse_amount(value)
