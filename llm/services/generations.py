"""Writes of requests to language models: made and sent, cancelled, given up."""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from llm.limits import Caller
from llm.models import GenerationJob, LanguageModel
from llm.relay import cancels
from mlops import bell
from mlops.exceptions import NotAllowed
from mlops.metrics.ends import job_ended
from mlops.models import Job
from mlops.services import job_cancel, job_enqueue

log = structlog.get_logger(__name__)

# Somebody waits for it, which can't be said of batches.
PRIORITY = 0


def generation_submit(
    *,
    endpoint: str,
    body: dict[str, Any],
    asked_model: str,
    model: LanguageModel,
    caller: Caller,
    streamed: bool,
    reply_to: str,
    pk: uuid.UUID,
) -> GenerationJob:
    """Makes the row and sends it to a worker; its events go to the stream `reply_to`.

    One that streams has one attempt: what its client has seen can't be begun anew.
    """
    with transaction.atomic():
        job = GenerationJob(
            id=pk,
            kind=GenerationJob.KIND,
            queue=model.root.queue,
            priority=PRIORITY,
            max_attempts=1 if streamed else settings.JOB_MAX_ATTEMPTS,
            owner=caller.user,
            api_key=caller.key,
            endpoint=endpoint,
            model=model,
            asked_model=asked_model[:200],
            body=body,
            streamed=streamed,
            reply_to=reply_to,
            request_id=str(structlog.contextvars.get_contextvars().get("request_id", ""))[:100],
            sent_at=Now(),
        )
        job.save(force_insert=True)
        job_enqueue(job=job)
    return job


def generation_cancel(*, pk: uuid.UUID) -> None:
    """Stops a request whose client has gone; one that has ended is left as it is."""
    # First, since each moment costs tokens; the row makes it certain.
    cancels.tell(str(pk))
    job = Job.objects.filter(pk=pk).first()
    if job is None:
        return
    try:
        job_cancel(job=job)
    except NotAllowed:
        return
    if job.finished:
        # It had not begun, so that no worker wipes it.
        _wipe(pk)


def generation_give_up(*, pk: uuid.UUID, code: str, error: str) -> None:
    """Ends a request whose reader has stopped waiting for its worker.

    A worker that lives after all has lost its lease by this, and stops.
    """
    ended = (
        Job.objects.unfinished()
        .filter(pk=pk)
        .update(status=Job.Status.FAILED, error_code=code, error=error, **Job.ending())
    )
    if ended:
        job_ended(kind=GenerationJob.KIND, queue=GenerationJob.QUEUE, status=Job.Status.FAILED)
        log.warning("request_given_up", job_id=str(pk), code=code)
        cancels.tell(str(pk))
        bell.ring(pk)
        _wipe(pk)


def _wipe(pk: uuid.UUID) -> None:
    """Forgets the request's text, unless its model keeps texts."""
    GenerationJob.objects.filter(pk=pk).exclude(model__store_texts=True).update(body=None)
