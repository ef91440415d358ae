"""The queue of pages to review as the console shows it: its filters and its rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from mlops import display
from mlops.models import User
from ocr.models import PageResult, PageReview
from ocr.models.review import reviewable_results
from ocr.review_queue import QueueFilter

ORDERS = [
    ("confidence", "Least certain first"),
    ("disagreement", "Where engines disagree"),
    ("random", "A random sample"),
]
STATUSES = [
    (PageReview.Status.OPEN, "To review"),
    (PageReview.Status.FLAGGED, "Flagged"),
    (PageReview.Status.ACCEPTED, "Accepted"),
]


class QueueForm(forms.Form):
    """What to review, out of an address's parameters; what makes no sense there counts as any."""

    status = forms.ChoiceField(choices=STATUSES, required=False, widget=forms.HiddenInput)
    order = forms.ChoiceField(
        choices=ORDERS, required=False, label="Order", widget=UnfoldAdminSelectWidget
    )
    seed = forms.CharField(
        max_length=100,
        required=False,
        label="Name of the sample",
        widget=UnfoldAdminTextInputWidget,
    )
    engine = forms.ChoiceField(required=False, label="Engine", widget=UnfoldAdminSelectWidget)
    language = forms.ChoiceField(required=False, label="Language", widget=UnfoldAdminSelectWidget)
    document = forms.UUIDField(required=False, widget=forms.HiddenInput)
    job = forms.UUIDField(required=False, widget=forms.HiddenInput)
    batch = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, user: User, given: QueryDict) -> None:
        super().__init__(given)
        self.user = user
        read = reviewable_results(user)
        for name in ("engine", "language"):
            values = read.order_by(name).values_list(name, flat=True).distinct()
            choices = [(value, value) for value in values if value]
            self.fields[name].choices = [("", "any"), *choices]
        self.is_valid()

    def given(self) -> dict[str, str]:
        """What was chosen, by name, without what stands for any."""
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        return {
            name: str(value)
            for name, value in chosen.items()
            if (name, value) not in (("status", PageReview.Status.OPEN), ("order", "confidence"))
        }

    def query(self) -> str:
        return urlencode(self.given())

    def queue_filter(self) -> QueueFilter:
        given = self.given()
        for name in ("document", "job", "batch"):
            if name in given:
                given |= {name: uuid.UUID(given[name])}
        return QueueFilter(**given)

    def tabs(self) -> list[dict[str, Any]]:
        """The three states, each with its address and how many pages are in it."""
        given = self.given()
        here = given.pop("status", PageReview.Status.OPEN)
        reviews = PageReview.objects.visible_to(self.user)
        return [
            {
                "title": title,
                "url": "?" + urlencode(given | {"status": status}),
                "active": status == here,
                "count": None
                if status == PageReview.Status.OPEN
                else reviews.filter(status=status).count(),
            }
            for status, title in STATUSES
        ]


def queue_rows(results: Iterable[PageResult], query: str) -> list[dict[str, Any]]:
    results = list(results)
    reviews = PageReview.objects.filter(result__in=results).select_related("reviewer")
    begun = {review.result_id: review for review in reviews.defer("lines", "blocks", "text")}
    return [
        {
            "url": f"{reverse('admin:ocr_review', args=[result.pk])}?{query}",
            "image": f"{reverse('admin:ocr_review_image', args=[result.pk])}?max_side=96",
            "result": result,
            "confidence": display.confidence(result.mean_confidence, result.job.min_confidence),
            "disagreement": display.percent(result.disagreement),
            "state": _state(begun.get(result.pk)),
        }
        for result in results
    ]


def _state(review: PageReview | None) -> str:
    if review is None:
        return "new"
    if review.status == PageReview.Status.FLAGGED:
        return f"{review.reviewer}: {review.note}" if review.note else f"by {review.reviewer}"
    if review.status == PageReview.Status.ACCEPTED:
        return f"by {review.reviewer}, {timezone.localtime(review.accepted_at):%Y-%m-%d %H:%M}"
    return f"begun by {review.reviewer}" if review.reviewer else "new"
