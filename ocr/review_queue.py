"""Which pages to review first: the least certain, a sample, or those that engines disagree on."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Literal

from django.db.models import CharField, Count, F, FloatField, Q, QuerySet, Value
from django.db.models.functions import MD5, Cast, Coalesce, Concat
from django.utils import timezone

from mlops.models import User
from ocr.models import PageResult, PageReview
from ocr.models.review import reviewable_results
from ocr.scoring import cer

Order = Literal["confidence", "random", "disagreement"]
# Comparing texts costs; the latest pages are compared, and no more of them than this.
MOST_COMPARED = 1000
# Texts are not loaded until a page is opened.
HEAVY = ("text", "lines", "blocks")
ALONG = ("page", "job__document")


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """What a person wants to review. `seed` names a sample, the same for everybody who names it.

    None and "" stand for any. `engine` and `language` are those that read the page. `status`
    other than open lists what was set aside or is done, the latest first.
    """

    order: Order = "confidence"
    seed: str = ""
    status: str = PageReview.Status.OPEN
    document: uuid.UUID | None = None
    job: uuid.UUID | None = None
    batch: uuid.UUID | None = None
    engine: str = ""
    language: str = ""


def queue_results(
    user: User, wanted: QueueFilter, *, skip: Collection[int] = ()
) -> QuerySet[PageResult] | list[PageResult]:
    """Pages that wait for a review by this user, the most urgent first, without their lines.

    Left out: accepted and flagged ones, other results of a page that was accepted, and pages that
    another annotator has claimed. Each has `review_status`, and `disagreement` (0 to 1) where
    the queue is ordered by it.
    """
    found = _matching(user, wanted).exclude(pk__in=skip)
    rows = found.defer(*HEAVY).select_related(*ALONG)
    rows = rows.annotate(
        review_status=Coalesce("review__status", Value(PageReview.Status.OPEN.value)),
        disagreement=Value(None, FloatField(null=True)),
    )
    if wanted.status != PageReview.Status.OPEN:
        return rows.filter(review__status=wanted.status).order_by("-review__updated_at")
    rows = _waiting(rows, user)
    if wanted.order == "disagreement":
        return list(_by_disagreement(rows))
    if wanted.order == "random":
        drawn = MD5(Concat(Value(wanted.seed), Value(":"), Cast("pk", CharField())))
        return rows.order_by(drawn, "pk")
    return rows.order_by(F("mean_confidence").asc(nulls_first=True), "pk")


def _matching(user: User, wanted: QueueFilter) -> QuerySet[PageResult]:
    given = {
        "job__document": wanted.document,
        "job": wanted.job,
        "job__parent": wanted.batch,
        "engine": wanted.engine,
        "language": wanted.language,
    }
    return reviewable_results(user).filter(
        **{name: value for name, value in given.items() if value}
    )


def _waiting(results: QuerySet[PageResult], user: User) -> QuerySet[PageResult]:
    done = Q(status=PageReview.Status.ACCEPTED)
    others = Q(claimed_until__gt=timezone.now()) & ~Q(claimed_by=user)
    taken = PageReview.objects.filter(done | others).values("result__page")
    flagged = PageReview.objects.filter(status=PageReview.Status.FLAGGED).values("result")
    return results.exclude(page__in=taken).exclude(pk__in=flagged)


def _by_disagreement(waiting: QuerySet[PageResult]) -> Iterator[PageResult]:
    """Of each page that engines read differently the surer reading, most different pages first."""
    pages = (
        PageResult.objects.filter(error="", page__in=waiting.values("page"))
        .values("page")
        .annotate(engines=Count("engine", distinct=True))
        .filter(engines__gt=1)
        .order_by("-page")
        .values_list("page", flat=True)[:MOST_COMPARED]
    )
    readings = (
        PageResult.objects.filter(page__in=list(pages), error="")
        .order_by("page", "pk")
        .only("page_id", "engine", "text", "mean_confidence")
    )
    apart: list[tuple[float, int]] = []
    for _, group in groupby(readings, key=lambda result: result.page_id):
        # An engine's later reading stands for it.
        latest = {result.engine: result for result in group}
        score = max(disagreement(a.text, b.text) for a, b in combinations(latest.values(), 2))
        if score > 0:
            ranked = sorted(latest.values(), key=lambda one: -(one.mean_confidence or 0))
            apart += [(score, result.pk) for result in ranked]
    scores = {pk: score for score, pk in apart}
    allowed = {row.pk: row for row in waiting.filter(pk__in=scores)}
    offered: set[int] = set()
    for score, pk in sorted(apart, key=lambda pair: -pair[0]):
        row = allowed.get(pk)
        if row is not None and row.page_id not in offered:
            offered.add(row.page_id)
            row.disagreement = score
            yield row


def disagreement(one: str, other: str) -> float:
    """How far two readings are apart, 0 to 1, whichever is right: CER against the longer one."""
    longer, shorter = sorted((one, other), key=len, reverse=True)
    return min(1.0, cer(longer, shorter))
