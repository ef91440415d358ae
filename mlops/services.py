"""Writes that concern any job, whatever app it belongs to."""

from __future__ import annotations

import uuid

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from mlops import bell, endings, outgoing, queues
from mlops.delivery import policy
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User, WebhookDelivery

log = structlog.get_logger(__name__)


def job_enqueue(*, job: Job) -> None:
    """Sends the job's message once the row is there for a worker to find.

    One that waits for another is sent at the end of that, which may have come already.
    """
    if job.after_id is not None:
        transaction.on_commit(lambda: _follow(job.after_id))
        return
    marked = job.sent_at is not None
    transaction.on_commit(lambda: queues.send(job, marked=marked))


def _follow(pk: uuid.UUID) -> None:
    job = Job.objects.filter(pk=pk).first()
    if job is not None and job.finished:
        endings.followers_settle(job)


def job_cancel(*, job: Job) -> None:
    """Cancels the job, and its children if it has any. Raises NotAllowed if it has ended."""
    job.cancel()
    if Job.objects.filter(parent=job.pk).exists():
        endings.children_cancel(job)
        endings.parent_refresh(job.pk)
        job.refresh_from_db()
    if job.finished:
        endings.announce(job)
    bell.ring(job.pk)
    log.info("job_cancel_requested", job_id=str(job.pk), status=job.status)


def job_retry(*, job: Job) -> None:
    """Raises NotAllowed unless the job failed or was cancelled, and can be done by itself."""
    if not job.specific().RETRYABLE:
        raise NotAllowed("It is a part of another job. Retry that one.")
    with transaction.atomic():
        job.retry()
        if job.parent_id is not None:
            endings.parent_reopen(job.parent_id)
        job_enqueue(job=job)


def job_pause(*, job: Job) -> None:
    """Raises NotAllowed unless the job is queued or running, and of a kind that can go on later."""
    if not job.specific().PAUSABLE:
        raise NotAllowed("Jobs of this kind can't be paused. Cancel it; a retry keeps what it did.")
    job.pause()
    bell.ring(job.pk)
    log.info("job_pause_requested", job_id=str(job.pk), status=job.status)


def job_resume(*, job: Job) -> None:
    """Raises NotAllowed unless the job is paused."""
    with transaction.atomic():
        job.resume()
        if job.status == Job.Status.QUEUED:
            job_enqueue(job=job)
    bell.ring(job.pk)


def webhook_url_check(*, url: str) -> None:
    """Raises ApplicationError for an address that would never be called."""
    try:
        outgoing.check_url(url, policy())
    except outgoing.Refused as error:
        raise ApplicationError(str(error), code="webhook_url", param="webhook_url") from error


def webhook_secret_rotate(*, user: User) -> None:
    """From now on another secret signs; for a day the one before it does so too."""
    User.objects.filter(pk=user.pk).update(
        webhook_secret_number=F("webhook_secret_number") + 1, webhook_secret_changed_at=Now()
    )
    user.refresh_from_db(fields=["webhook_secret_number", "webhook_secret_changed_at"])
    log.info("webhook_secret_rotated", user=user.pk)


def webhook_redeliver(*, delivery: WebhookDelivery) -> None:
    """Sends an ended message again, from the first attempt on. Raises NotAllowed for another."""
    row = WebhookDelivery.objects.filter(pk=delivery.pk).exclude(
        status=WebhookDelivery.Status.PENDING
    )
    if not row.update(
        status=WebhookDelivery.Status.PENDING,
        attempts=0,
        next_at=Now(),
        response_status=None,
        error="",
        ended_at=None,
    ):
        raise NotAllowed("The message is still being sent.")
    delivery.refresh_from_db()
