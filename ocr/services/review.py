"""Writes of reviews: who looks at a page, what they decide of it, and whose turn is next."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from mlops.exceptions import NotAllowed
from mlops.models import User
from ocr import listeners
from ocr.models import PageResult, PageReview
from ocr.quality_rows import page_scores_update
from ocr.review_lines import numbered
from ocr.review_queue import QueueFilter, queue_results

CLAIM = timedelta(minutes=15)
# Looked at for one that nobody has taken since the query; more ask at once only in theory.
CANDIDATES = 50


class ReviewConflict(NotAllowed):
    """Somebody else was there first; `review` is the page as it is now, `line_id` the line."""

    code = "line_changed"

    def __init__(
        self, message: str, *, review: PageReview, line_id: str = "", code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.review = review
        self.line_id = line_id


def review_begin(*, result: PageResult) -> PageReview:
    """The page's review, made if there is none. Raises NotAllowed for a page that was not read."""
    if result.error:
        raise NotAllowed(
            "This page could not be read, so there is nothing to correct. Read it again first.",
            code="not_read",
        )
    review, _created = PageReview.objects.get_or_create(
        result=result,
        defaults={
            "lines": numbered(result.lines),
            "blocks": result.blocks,
            "text": result.text,
        },
    )
    return review


def review_open(*, result: PageResult, user: User) -> PageReview:
    """The page's review, claimed for the user unless somebody else has it."""
    review = review_begin(result=result)
    _claim(review, user)
    review.refresh_from_db()
    return review


def review_next(
    *, user: User, wanted: QueueFilter, skip: Collection[int] = ()
) -> PageReview | None:
    """The next page of the queue, claimed; None if nothing is left. `skip`: ids of results."""
    for result in queue_results(user, wanted, skip=skip)[:CANDIDATES]:
        review = review_begin(result=result)
        # Another annotator may have asked in the same moment.
        if _claim(review, user):
            review.refresh_from_db()
            return review
    return None


def review_release(*, review: PageReview, user: User) -> None:
    """Gives the user's claim back, if it is theirs."""
    PageReview.objects.filter(pk=review.pk, claimed_by=user).update(
        claimed_by=None, claimed_until=None
    )


def review_accept(*, review: PageReview, user: User, version: int) -> PageReview:
    """Vouches for the page as it was in `version`. Raises ReviewConflict if it changed since."""
    with transaction.atomic():
        now = review_locked(review)
        refuse_accepted(now)
        if now.version != version:
            raise ReviewConflict(
                f"{now.reviewer or 'Somebody'} has changed the page meanwhile. Look at it once "
                "more before you accept it.",
                review=now,
                code="page_changed",
            )
        now.accepted_at = timezone.now()
        return _decide(now, user, PageReview.Status.ACCEPTED)


def review_flag(*, review: PageReview, user: User, note: str = "") -> PageReview:
    """Sets the page aside for somebody else to look at; it leaves the queue."""
    with transaction.atomic():
        now = review_locked(review)
        refuse_accepted(now)
        now.note = note.strip()
        return _decide(now, user, PageReview.Status.FLAGGED)


def review_reopen(*, review: PageReview, user: User) -> PageReview:
    """Back to open, from accepted or flagged; the corrections stay."""
    with transaction.atomic():
        now = review_locked(review)
        if now.status == PageReview.Status.OPEN:
            return now
        now.accepted_at = None
        return _decide(now, user, PageReview.Status.OPEN)


def review_locked(review: PageReview) -> PageReview:
    """The row as it is now, locked to the end of the transaction.

    SQLite ignores the lock of a row, but there each transaction begins with the write lock.
    """
    rows = PageReview.objects.select_for_update(of=("self",)).select_related(
        "result__page", "reviewer"
    )
    return rows.get(pk=review.pk)


def refuse_accepted(review: PageReview) -> None:
    if review.status == PageReview.Status.ACCEPTED:
        raise ReviewConflict(
            f"The page was accepted by {review.reviewer or 'somebody'}. Reopen it to change it.",
            review=review,
            code="accepted",
        )


def _claim(review: PageReview, user: User) -> bool:
    """One conditional update, so that of any number of annotators exactly one gets the page."""
    now = timezone.now()
    free = Q(claimed_by=None) | Q(claimed_until__lt=now) | Q(claimed_by=user)
    return bool(
        PageReview.objects.filter(free, pk=review.pk)
        .exclude(status=PageReview.Status.ACCEPTED)
        .update(claimed_by=user, claimed_until=now + CLAIM)
    )


def _decide(review: PageReview, user: User, status: str) -> PageReview:
    review.status = status
    review.reviewer = user
    review.version += 1
    if status != PageReview.Status.OPEN:
        review.claimed_by = review.claimed_until = None
    review.save()
    # Whether, and by which text, the page's readings are measured.
    page_scores_update(page_id=review.result.page_id)
    listeners.text_changed(review.result.page.document_id)
    return review
