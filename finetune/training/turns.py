"""Whose turn it is: trainings queue up fairly between users."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from finetune.models import TrainingJob, TrainingJoin
from mlops.models import Job

# What somebody has used of the devices in this time counts against them.
REMEMBERED = timedelta(hours=24)


def turns() -> list[TrainingJob]:
    """The jobs that wait, the next one first.

    By priority; then whoever has fewer running; then whoever has used the devices for less time
    of late; then the oldest. Dry runs take seconds and go before the others of their priority.
    """
    waiting = list(TrainingJob.objects.due().order_by("created_at"))
    if gathering().exists():
        # Of two that each had some of the machines, neither would get all.
        waiting = [job for job in waiting if machines_of(job) == 1]
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


def machines_of(job: TrainingJob) -> int:
    """A dry run looks at everything on one."""
    return 1 if job.dry_run else int(job.options.get("machines", 1))


def gathering() -> QuerySet[TrainingJoin]:
    """The machines of trainings that wait until they have all of them."""
    return TrainingJoin.objects.current().unfinished().filter(port=0)


def joins() -> QuerySet[TrainingJoin]:
    """Those that no worker has taken yet, the first one first."""
    return gathering().due().order_by("created_at", "rank")
