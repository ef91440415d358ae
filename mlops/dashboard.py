"""The console's first page: what waits, runs and fails, and whether anybody works on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.module_loading import import_string

from mlops import console, display, selectors
from mlops.models import Job, QueuePulse, User

LATEST = 8


@dataclass(frozen=True, slots=True)
class Card:
    """One number. `tone` is "", "success", "warning" or "danger"."""

    title: str
    value: str
    hint: str
    icon: str
    url: str = ""
    tone: str = ""


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback; everything counted is what the user may see."""
    cards = job_cards(request.user)
    for source in console.CARD_SOURCES:
        cards += import_string(source)(request.user)
    return context | {
        "cards": cards,
        "latest": latest(request.user),
        "queues": queues(),
        "may_upload": request.user.has_perm("ocr.add_document"),
        "title": "Dashboard",
    }


def job_cards(user: User) -> list[Card]:
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    count = Job.objects.visible_to(user).aggregate(
        queued=Count("pk", filter=Q(status=Job.Status.QUEUED)),
        running=Count("pk", filter=Q(status=Job.Status.RUNNING)),
        failed=Count("pk", filter=Q(status=Job.Status.FAILED, finished_at__gte=today)),
        succeeded=Count("pk", filter=Q(status=Job.Status.SUCCEEDED, finished_at__gte=today)),
    )
    page = "mlops_job" if user.has_perm("mlops.view_job") else "ocr_ocrjob"
    url = reverse(f"admin:{page}_changelist") + "?status__exact="
    return [
        Card("Queued", f"{count['queued']:,}", "jobs waiting now", "hourglass", url + "queued"),
        Card(
            "Running", f"{count['running']:,}", "jobs at work now", "play_circle", url + "running"
        ),
        Card(
            "Failed today",
            f"{count['failed']:,}",
            f"{count['succeeded']:,} succeeded",
            "error",
            url + "failed",
            "danger" if count["failed"] else "",
        ),
    ]


def latest(user: User) -> list[dict[str, Any]]:
    source = reverse("admin:mlops_job_progress")
    rows = []
    for row in Job.objects.visible_to(user).select_related("owner")[:LATEST]:
        job = row.specific()
        rows.append(
            {
                "title": str(job),
                "url": display.job_url(job),
                "kind": job.kind,
                "owner": row.owner,
                "created_at": row.created_at,
                "status": display.live(row, "status_label", display.status_label(row), source),
                "progress": display.live(row, "progress", display.progress_bar(row), source),
                "duration": display.live(row, "duration", display.job_duration(row), source),
            }
        )
    return rows


def queues() -> list[dict[str, Any]]:
    """Each queue, whether it was consumed from lately, and when it last was."""
    seen = selectors.queues_seen(settings.QUEUES)
    pulses = {pulse.queue: pulse for pulse in QueuePulse.objects.filter(queue__in=settings.QUEUES)}
    return [
        {"name": name, "seen": name in seen, "pulse": pulses.get(name)} for name in settings.QUEUES
    ]
