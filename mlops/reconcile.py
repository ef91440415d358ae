"""Brings rows and messages back into agreement after workers or brokers were lost."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from mlops import queues
from mlops.celery import app
from mlops.metrics.ends import job_ended
from mlops.models import Job, QueuePulse

log = structlog.get_logger(__name__)


def jobs_reap() -> int:
    """Ends or queues again the jobs whose worker is gone; returns how many.

    Any number of processes may do this at once: each row is changed by one of them.
    """
    reaped = 0
    for job in Job.objects.expired():
        row = Job.objects.expired().filter(pk=job.pk, attempts=job.attempts)
        status = Job.Status.QUEUED
        if job.cancel_requested:
            status = Job.Status.CANCELLED
            changed = row.update(status=status, sent_at=None, **Job.ending())
        elif job.attempts >= job.max_attempts:
            status = Job.Status.FAILED
            changed = row.update(
                status=status,
                error_code="worker_lost",
                error=f"The worker ({job.worker}) was lost in each of {job.attempts} attempts. "
                "Look for a crash or a memory limit in its log, then retry the job.",
                tracking=Job.Tracking.PENDING if job.specific().TRACKED else Job.Tracking.NONE,
                sent_at=None,
                **Job.ending(),
            )
        else:
            changed = row.update(status=status, lease_until=None, sent_at=None)
            if changed:
                queues.send(job)
        if changed:
            reaped += 1
            if status != Job.Status.QUEUED:
                job_ended(kind=job.kind, queue=job.queue, status=status)
            log.warning("job_reaped", job_id=str(job.pk), worker=job.worker, attempt=job.attempts)
    return reaped


def jobs_resend() -> int:
    """Sends again the queued jobs whose message has vanished; returns how many.

    A broker can't be asked for one message, only how many wait. Fewer messages than queued rows
    means that some are gone: as many are sent again, those sent longest ago first. One that was
    there after all is harmless, since only the first to arrive gets the lease.
    """
    stale = Job.objects.due().exclude(
        sent_at__gt=Now() - timedelta(seconds=settings.JOB_RESEND_SECONDS)
    )
    names = sorted(set(stale.values_list("queue", flat=True).order_by()))
    if not names:
        return 0
    depths = queues.depths(names)
    resent = 0
    for name in names:
        queued = Job.objects.due().filter(queue=name).count()
        missing = max(0, queued - depths[name])
        oldest = stale.filter(queue=name).order_by(F("sent_at").asc(nulls_first=True))
        for job in oldest[:missing]:
            resent += queues.send(job)
    if resent:
        log.warning("jobs_resent", count=resent)
    return resent


def pulses_send(*, names: list[str]) -> None:
    """Sends a sign of life through each empty queue; who consumes it proves that it works.

    A queue with work in it needs none: its jobs show whether they are being consumed.
    """
    for name, depth in queues.depths(names).items():
        if depth == 0:
            app.send_task(
                "mlops.pulse",
                args=[name],
                queue=name,
                priority=0,
                expires=settings.QUEUE_SEEN_SECONDS,
                ignore_result=True,
                retry=False,
            )


def pulse_record(*, queue: str, worker: str) -> None:
    QueuePulse.objects.update_or_create(queue=queue, defaults={"seen_at": Now(), "worker": worker})
