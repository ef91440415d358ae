"""What OCR puts on the console's dashboard."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Avg, Count, Q
from django.urls import reverse
from django.utils import timezone

from mlops.dashboard import Card
from mlops.display import NOTHING, percent
from mlops.models import User
from ocr.models import OcrJob, PageResult
from ocr.quality import QualityFilter, quality_scores, total


def cards(user: User) -> list[Card]:
    """Pages read in the last 24 hours, how sure the engines were of them, and how right."""
    results = PageResult.objects.filter(created_at__gte=timezone.now() - timedelta(hours=24))
    if not user.sees_all:
        results = results.filter(job__in=OcrJob.objects.visible_to(user))
    found = results.aggregate(
        read=Count("pk", filter=Q(error="")),
        failed=Count("pk", filter=~Q(error="")),
        confidence=Avg("mean_confidence"),
    )
    url = reverse("admin:ocr_ocrjob_changelist")
    hint = f"{found['failed']:,} could not be read" if found["failed"] else "in the last 24 hours"
    return [
        Card("Pages read", f"{found['read']:,}", hint, "auto_stories", url),
        Card(
            "Mean confidence", percent(found["confidence"]), "in the last 24 hours", "verified", url
        ),
        quality_card(user),
    ]


def quality_card(user: User) -> Card:
    """The character error rate of what was read in the last 30 days and corrected since."""
    since = timezone.localdate() - timedelta(days=30)
    found = total(quality_scores(user, QualityFilter(since=since)))
    may_look = user.has_perm("ocr.view_pagescore")
    url = reverse("admin:ocr_pagescore_changelist") if may_look else ""
    if found is None:
        return Card("Character errors", NOTHING, "review pages to measure it", "monitoring", url)
    hint = f"{found['pages']:,} pages in 30 days"
    return Card("Character errors", percent(found["cer_micro"]), hint, "monitoring", url)
