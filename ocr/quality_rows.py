"""The rows of quality: each result of a page against what people have accepted as its text."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any
from uuid import UUID

from django.db.models import F

from ocr.models import PageResult, PageReview, PageScore
from ocr.scoring import Counts, count

# Case is part of what an annotator corrects.
RULES: dict[str, Any] = {"form": "NFC", "casefold": False}

COUNTS = [field.name for field in fields(Counts)]
WHAT_READ_IT = ["engine", "language", "model_version", "read_at"]


def page_scores_update(*, page_id: int) -> int:
    """Scores every result of the page by its latest accepted review; returns how many there are.

    Where no review is accepted, or none is any longer, the page has no scores.
    """
    # By page alone: with the status in it SQLite walks through every accepted review.
    reviews = PageReview.objects.filter(result__page=page_id).only("status", "accepted_at", "text")
    accepted = [review for review in reviews if review.status == PageReview.Status.ACCEPTED]
    truth = max(accepted, key=lambda review: review.accepted_at, default=None)
    if truth is None:
        PageScore.objects.filter(result__page=page_id).delete()
        return 0
    results = (
        PageResult.objects.filter(page=page_id)
        # A job that took over an earlier one's pages has read nothing itself.
        .exclude(job__reused_from__document=F("job__document"))
        .select_related("job")
        .defer("lines", "blocks")
    )
    scores = [_score(result, truth) for result in results.order_by("pk")]
    PageScore.objects.bulk_create(
        scores,
        update_conflicts=True,
        unique_fields=["result"],
        update_fields=["review", "scored_at", *WHAT_READ_IT, *COUNTS],
    )
    return len(scores)


def document_scores_update(*, document_id: UUID) -> None:
    """Scores what was read of the document's pages, where people have accepted a text already."""
    # Not by status, as above.
    reviews = PageReview.objects.filter(result__page__document=document_id).order_by()
    for page_id in reviews.values_list("result__page", flat=True).distinct():
        page_scores_update(page_id=page_id)


def _score(result: PageResult, truth: PageReview) -> PageScore:
    """What the engine itself read: a review never changes a result. A failed page has no text."""
    counts = count(truth.text, None if result.error else result.text, **RULES)
    return PageScore(
        result=result,
        review=truth,
        engine=result.engine or result.job.engine,
        language=result.language or result.job.language,
        model_version=result.model_version,
        read_at=result.created_at,
        **asdict(counts),
    )
