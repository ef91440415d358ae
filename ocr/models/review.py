"""What people make of a page after an engine has read it: the corrected lines, and each change."""

from __future__ import annotations

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from mlops.models import User
from ocr.models.results import PageResult


class PageReviewQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if reviews_all(user) else self.filter(_owned_by(user, "result__"))

    def accepted(self) -> Self:
        """Pages whose text a person has vouched for: what engines are measured against."""
        return self.filter(status=PageReview.Status.ACCEPTED)


class PageReview(models.Model):
    """One page result under correction.

    open -> accepted | flagged; flagged -> accepted | open; accepted -> open

    `lines` are PageResult's, each with three keys more: "id" (stable; the engine's own line number
    n, counted from 1, is "n"), "rev" (the review's `version` when the line last changed, 0 for
    what the engine gave) and "by" (the username of who changed it, "" for the engine).
    `blocks` divide these lines as PageResult's divide its own. `text` is the corrected page.

    `version` counts the changes. A change names the version its author saw: it is refused where
    the line has a later `rev`, so changes of different lines by two people both go through.
    A claim keeps the page out of other people's queue until `claimed_until`; it locks nothing.
    """

    class Status(models.TextChoices):
        OPEN = "open"
        ACCEPTED = "accepted"
        FLAGGED = "flagged"

    result = models.OneToOneField(PageResult, on_delete=models.CASCADE, related_name="review")
    lines = models.JSONField(default=list)
    blocks = models.JSONField(default=list)
    text = models.TextField(blank=True)
    version = models.PositiveIntegerField(default=0)
    order_version = models.PositiveIntegerField(
        default=0, help_text="the version that last changed which lines there are, or their order"
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="reviews",
        help_text="who changed, accepted or flagged it last",
    )
    note = models.TextField(blank=True, help_text="why it was flagged")
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="claimed_reviews",
    )
    claimed_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    accepted_at = models.DateTimeField(null=True, blank=True)

    objects = PageReviewQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at"]
        indexes = [models.Index(fields=["status", "accepted_at"], name="review_status_accepted")]
        permissions = [("review_any", "Can review everybody's pages")]

    def __str__(self) -> str:
        return f"Review of {self.result}"

    def line(self, line_id: str) -> dict[str, Any] | None:
        return next((line for line in self.lines if line["id"] == line_id), None)


class Correction(models.Model):
    """One change of a reviewed page; written once, and gone only with its document.

    `before` and `after` are texts, `before_box` and `box` polygons as in PageResult, of the line
    `line_id`; None or empty where there was, or is, no such line. Merging and splitting concern
    several lines: `lines_before` and `lines_after` hold all of them whole ({"id"} alone for a new
    order), `before` and `after` their texts joined by newlines; `page_before` holds the page's
    "order" of ids and "blocks" where these changed. `version` is the review's after the change;
    `undoes` names the correction that this one took back.
    """

    class Action(models.TextChoices):
        EDIT = "edit"
        ADD = "add"
        REMOVE = "remove"
        MERGE = "merge"
        SPLIT = "split"
        BOX = "box"
        ORDER = "order"

    review = models.ForeignKey(PageReview, on_delete=models.CASCADE, related_name="corrections")
    action = models.CharField(max_length=10, choices=Action)
    line_id = models.CharField(max_length=20, blank=True)
    position = models.PositiveIntegerField(
        default=0, help_text="of the line in the reading order, from 0"
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="corrections",
    )
    version = models.PositiveIntegerField()
    before = models.TextField(blank=True)
    after = models.TextField(blank=True)
    before_box = models.JSONField(null=True, blank=True)
    box = models.JSONField(null=True, blank=True)
    lines_before = models.JSONField(default=list)
    lines_after = models.JSONField(default=list)
    page_before = models.JSONField(default=dict)
    undoes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.CASCADE, related_name="undone_by"
    )
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["review", "version"]
        constraints = [
            models.UniqueConstraint(fields=["review", "version"], name="correction_once_a_version")
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()} of line {self.line_id or '-'}"


def reviews_all(user: User) -> bool:
    """Whether the user reviews everybody's pages, as annotators and operators do."""
    return user.has_perm("ocr.review_any")


def reviewable_results(user: User) -> models.QuerySet[PageResult]:
    """Results that were read, of documents that the user may review."""
    results = PageResult.objects.filter(error="")
    return results if reviews_all(user) else results.filter(_owned_by(user, ""))


def _owned_by(user: User, prefix: str) -> Q:
    """The job's owner and the document's both may: an operator can run a job for somebody else."""
    return Q(**{f"{prefix}job__owner": user}) | Q(**{f"{prefix}job__document__owner": user})
