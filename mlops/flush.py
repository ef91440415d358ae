"""Logs ended jobs to MLflow, apart from running them: a server that is down delays nothing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from mlops.models import Job
from mlops.tracking import NullTracker, TrackingUnavailable, tracker

log = structlog.get_logger(__name__)

# For as long nobody else tries a job that one process has begun to log.
CLAIM = timedelta(minutes=5)
BACK_OFF = timedelta(seconds=30)


def jobs_track(*, only: Collection[object] | None = None, limit: int = 50) -> int:
    """Logs up to `limit` ended jobs that aren't logged yet (`only` these); returns how many were.

    Stops at the first that fails: the others would wait for the same server. A job that couldn't
    be logged for TRACKING_GIVE_UP is dropped with a warning. While jobs are at work, only runs
    that have waited for long are logged: the worker's time is for the jobs.
    """
    due = Job.objects.filter(tracking=Job.Tracking.PENDING, tracking_after__lte=Now())
    if only is not None:
        due = due.filter(pk__in=only)
    elif Job.objects.unfinished().exists():
        due = due.filter(finished_at__lte=Now() - settings.TRACKING_BUSY)
    try:
        if isinstance(tracker(), NullTracker):
            due.update(tracking=Job.Tracking.NONE)
            return 0
    except TrackingUnavailable as error:
        log.warning("runs_postponed", reason=str(error))
        return 0
    logged = 0
    for pk in due.order_by("finished_at").values_list("pk", flat=True)[:limit]:
        claimed = due.filter(pk=pk).update(tracking_after=Now() + CLAIM)
        if not claimed:
            continue
        job = Job.objects.get(pk=pk)
        try:
            run = tracker().log(job.specific().run_record())
        except TrackingUnavailable as error:
            _postpone(job, str(error))
            break
        except Exception as error:
            # Of this job alone: the others are not kept waiting for it.
            log.exception("run_not_logged", job_id=str(pk))
            _postpone(job, f"{type(error).__name__}: {error}")
            continue
        Job.objects.filter(pk=pk).update(
            tracking=Job.Tracking.LOGGED if run else Job.Tracking.NONE,
            tracking_note="",
            mlflow_run_id=run.run_id if run else "",
            mlflow_run_url=run.url if run else "",
        )
        logged += bool(run)
    return logged


def _postpone(job: Job, reason: str) -> None:
    row = Job.objects.filter(pk=job.pk)
    ended = job.finished_at or job.created_at
    if timezone.now() - ended > settings.TRACKING_GIVE_UP:
        log.warning("run_dropped", job_id=str(job.pk), reason=reason)
        row.update(tracking=Job.Tracking.DROPPED, tracking_note=reason)
    else:
        log.warning("run_postponed", job_id=str(job.pk), reason=reason)
        row.update(tracking_after=Now() + BACK_OFF, tracking_note=reason)
