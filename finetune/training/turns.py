"""Whose turn it is: trainings queue up fairly between users."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from django.utils import timezone

from finetune.models import TrainingJob
from mlops.models import Job

# What somebody has used of the devices in this time counts against them.
REMEMBERED = timedelta(hours=24)


def turns() -> list[TrainingJob]:
    """The jobs that wait, the next one first.

    By priority; then whoever has fewer running; then whoever has used the devices for less time
    of late; then the oldest. Dry runs take seconds and go before the others of their priority.
    """
    waiting = list(TrainingJob.objects.due().order_by("created_at"))
    if len(waiting) < 2:
        return waiting
    running: dict[object, int] = defaultdict(int)
    used: dict[object, float] = defaultdict(float)
    now = timezone.now()
    recent = TrainingJob.objects.filter(started_at__isnull=False).exclude(
        finished_at__lt=now - REMEMBERED
    )
    fields = ("owner_id", "status", "started_at", "finished_at")
    for owner, status, started, finished in recent.values_list(*fields):
        if status == Job.Status.RUNNING:
            running[owner] += 1
        since = max(started, now - REMEMBERED)
        used[owner] += max(0.0, ((finished or now) - since).total_seconds())
    return sorted(
        waiting,
        key=lambda job: (job.priority, not job.dry_run, running[job.owner_id], used[job.owner_id]),
    )
