"""A review as clients see it: whole, or what changed since a version they have."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from ocr.models import PageResult, PageReview
from ocr.review_lines import numbered


def review_of(result: PageResult) -> PageReview:
    """The page's review; one that nobody has begun is not in the database yet."""
    review = (
        PageReview.objects.filter(result=result).select_related("claimed_by", "reviewer").first()
    )
    if review is None:
        review = PageReview(lines=numbered(result.lines), blocks=result.blocks, text=result.text)
    review.result = result
    return review


def review_json(review: PageReview) -> dict[str, Any]:
    """The whole page: what read it, its lines in reading order, and where the review stands."""
    result = review.result
    job = result.job
    return {
        "id": result.pk,
        "document": {"id": str(job.document_id), "name": job.document.name},
        "job": str(job.pk),
        "page": result.page.number,
        "pages": job.document.page_count,
        "width": result.width,
        "height": result.height,
        "rotation": result.rotation,
        "engine": result.engine,
        "language": result.language,
        "model_version": result.model_version,
        "min_confidence": job.min_confidence,
        "mean_confidence": result.mean_confidence,
        **_standing(review),
        "text": review.text,
        "lines": review.lines,
        "blocks": review.blocks,
    }


def review_delta(review: PageReview, since: int) -> dict[str, Any]:
    """Where the review stands, the reading order, and the lines that changed after `since`."""
    return {
        **_standing(review),
        "order": [line["id"] for line in review.lines],
        "lines": [line for line in review.lines if line["rev"] > since],
    }


def _standing(review: PageReview) -> dict[str, Any]:
    claimed = review.claimed_until is not None and review.claimed_until > timezone.now()
    return {
        "status": review.status,
        "version": review.version,
        "reviewer": review.reviewer.username if review.reviewer else None,
        "claimed_by": review.claimed_by.username if claimed and review.claimed_by else None,
        "note": review.note,
        "updated_at": review.updated_at if review.pk else None,
        "accepted_at": review.accepted_at,
    }
