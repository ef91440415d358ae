"""Writes that concern any job, whatever app it belongs to."""

from __future__ import annotations

import structlog
from django.db import transaction

from mlops import queues
from mlops.models import Job

log = structlog.get_logger(__name__)


def job_enqueue(*, job: Job) -> None:
    """Sends the job's message once the row is there for a worker to find."""
    transaction.on_commit(lambda: queues.send(job))


def job_cancel(*, job: Job) -> None:
    """Raises NotAllowed if the job has ended."""
    job.cancel()
    log.info("job_cancel_requested", job_id=str(job.pk), status=job.status)


def job_retry(*, job: Job) -> None:
    """Raises NotAllowed unless the job failed or was cancelled."""
    with transaction.atomic():
        job.retry()
        job_enqueue(job=job)
