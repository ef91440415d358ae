"""Reads that span more than one table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from mlops.models import Job, QueuePulse


def queues_seen(names: Iterable[str], *, seconds: float | None = None) -> set[str]:
    """The queues from which something was consumed within the last `seconds`.

    A pulse counts, and so does a job that runs: a worker that trains for hours consumes no pulse.
    """
    since = Now() - timedelta(seconds=seconds or settings.QUEUE_SEEN_SECONDS)
    pulses = QueuePulse.objects.filter(queue__in=names, seen_at__gte=since)
    jobs = Job.objects.filter(queue__in=names, heartbeat_at__gte=since)
    return {
        *pulses.values_list("queue", flat=True),
        *jobs.order_by().values_list("queue", flat=True).distinct(),
    }
