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
    jobs = Job.objects.filter(heartbeat_at__gte=since).order_by()
    # Among a million rows those that run are found by an index; those that have just ended are
    # looked for only where nothing else shows life.
    signs = (
        QueuePulse.objects.filter(seen_at__gte=since),
        jobs.filter(status=Job.Status.RUNNING),
        jobs,
    )
    silent, seen = set(names), set[str]()
    for rows in signs:
        seen |= set(rows.filter(queue__in=silent).values_list("queue", flat=True).distinct())
        silent -= seen
    return seen
