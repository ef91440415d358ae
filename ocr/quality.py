"""How good each engine is, by what people have corrected: sums over scored pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

from django.db.models import Avg, Case, Count, F, FloatField, Max, Min, QuerySet, Sum, Value, When
from django.db.models.functions import Cast, TruncDay, TruncMonth, TruncWeek
from django.utils import timezone

from mlops.models import User
from ocr.models import PageScore
from ocr.quality_rows import COUNTS, RULES
from ocr.scoring import rules

Interval = Literal["day", "week", "month"]

TRUNCATE = {"day": TruncDay, "week": TruncWeek, "month": TruncMonth}
GROUP = ("engine", "language", "model_version")
RULES_TEXT = rules(**RULES)


@dataclass(frozen=True, slots=True)
class QualityFilter:
    """Which scored pages count; empty for all. Days are of reading, both inclusive."""

    engine: str = ""
    language: str = ""
    model_version: str = ""
    since: date | None = None
    until: date | None = None


def quality_scores(user: User, wanted: QualityFilter) -> QuerySet[PageScore]:
    """The scores that the user may see, of the pages that are asked for."""
    scores = PageScore.objects.visible_to(user)
    for name in GROUP:
        if value := getattr(wanted, name):
            scores = scores.filter(**{name: value})
    if wanted.since:
        scores = scores.filter(read_at__gte=_midnight(wanted.since))
    if wanted.until:
        scores = scores.filter(read_at__lt=_midnight(wanted.until + timedelta(days=1)))
    return scores


def quality_groups(scores: QuerySet[PageScore]) -> list[dict[str, Any]]:
    """A row for each engine, language and model version; see `_figures`."""
    found = scores.order_by().values(*GROUP).annotate(**_SUMS)
    return [{name: row[name] for name in GROUP} | _figures(row) for row in found.order_by(*GROUP)]


def quality_series(scores: QuerySet[PageScore], interval: Interval) -> list[dict[str, Any]]:
    """As `quality_groups`, for each day, week (from Monday) or month with pages in it, by time."""
    period = TRUNCATE[interval]("read_at")
    found = scores.order_by().annotate(period=period).values("period", *GROUP).annotate(**_SUMS)
    return [
        {"period": row["period"].date()} | {name: row[name] for name in GROUP} | _figures(row)
        for row in found.order_by("period", *GROUP)
    ]


def worst_scores(scores: QuerySet[PageScore], limit: int) -> list[PageScore]:
    """The pages with errors, those with the most in relation to their text first.

    Each has `cer`, and its review, result, page, document and job at hand.
    """
    wrong = scores.filter(errors__gt=0).annotate(cer=_rate("errors", "characters"))
    by_rate = ("-cer", "-errors", "pk")
    # Chosen first, joined then: the joined rows hold whole pages.
    worst = list(wrong.order_by(*by_rate).values_list("pk", flat=True)[:limit])
    rows = wrong.filter(pk__in=worst).select_related(
        "result__job", "result__page__document", "review__result__job"
    )
    bulky = [f"{path}__{name}" for path in _PATHS for name in _BULKY]
    return list(rows.defer(*bulky).order_by(*by_rate))


def total(scores: QuerySet[PageScore]) -> dict[str, Any] | None:
    """One row over all; None where no page is scored."""
    found = scores.order_by().aggregate(**_SUMS)
    return _figures(found) if found["pages"] else None


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    """`pages`, `characters`, `words`, the rates of `ocr.scoring`, and when they were read."""
    both = row["sum_words"] + row["sum_words_read"]
    return {
        "pages": row["pages"],
        "characters": row["sum_characters"],
        "words": row["sum_words"],
        "cer_micro": _ratio(row["sum_errors"], row["sum_characters"]),
        "cer_macro": row["cer_macro"],
        "wer_micro": _ratio(row["sum_word_errors"], row["sum_words"]),
        "wer_macro": row["wer_macro"],
        "word_f1": 2 * row["sum_words_matched"] / both if both else 1.0,
        "first": row["first"],
        "last": row["last"],
    }


def _rate(errors: str, length: str) -> Case:
    """`ocr.scoring`'s rate of one page, in the database."""
    return Case(
        When(**{length: 0, errors: 0}, then=Value(0.0)),
        When(**{length: 0}, then=Value(1.0)),
        default=Cast(F(errors), FloatField()) / F(length),
        output_field=FloatField(),
    )


def _ratio(errors: int, length: int) -> float:
    return errors / length if length else float(errors > 0)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


_BULKY = ("lines", "blocks", "text")
_PATHS = ("result", "review", "review__result")
_SUMS: dict[str, Any] = {
    "pages": Count("pk"),
    **{f"sum_{name}": Sum(name) for name in COUNTS},
    "cer_macro": Avg(_rate("errors", "characters")),
    "wer_macro": Avg(_rate("word_errors", "words")),
    "first": Min("read_at"),
    "last": Max("read_at"),
}
