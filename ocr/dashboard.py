"""What OCR puts on the console's dashboard."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Avg, Count, Q
from django.urls import reverse
from django.utils import timezone

from mlops.dashboard import Card
from mlops.display import percent
from mlops.models import User
from ocr.models import OcrJob, PageResult


def cards(user: User) -> list[Card]:
    """Pages read in the last 24 hours, and how sure the engines were of them."""
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
    ]
