"""Writes of the jobs that read documents."""

from __future__ import annotations

from typing import IO, Any

import structlog
from django.db import transaction

from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import job_enqueue, job_retry
from ocr.job_rows import languages_of, ocr_job_create
from ocr.models import Document, OcrJob, PageResult
from ocr.services.documents import document_create, document_delete

log = structlog.get_logger(__name__)


def ocr_job_submit(*, document: Document, **options: Any) -> OcrJob:
    """Creates the job and sends it to a worker; options as for `ocr_job_create`."""
    with transaction.atomic():
        job = ocr_job_create(document=document, sent=True, **options)
        job_enqueue(job=job)
    log.debug("job_submitted", job_id=str(job.pk), document_id=str(document.pk))
    return job


def upload_and_submit(
    *, file: IO[bytes], owner: User | None, source: str, **options: Any
) -> OcrJob:
    """An upload and its job in one: if the job can't be made, the document isn't kept either."""
    document = document_create(
        file=file, name=getattr(file, "name", "") or "", owner=owner, source=source
    )
    try:
        return ocr_job_submit(document=document, owner=owner, **options)
    except ApplicationError:
        document_delete(document=document)
        raise


def ocr_job_retry(*, job: Job) -> None:
    """Queues the job again: pages that failed are read anew, the others are kept."""
    with transaction.atomic():
        job_retry(job=job)
        PageResult.objects.filter(job=job.pk).exclude(error="").delete()


def ocr_job_resume(*, document: Document, worker: str, options: dict[str, Any]) -> OcrJob | None:
    """The document's latest job with the same options, to go on with, leased unless it succeeded.

    None if there is none, or another process is at it.
    """
    wanted = {**options, "language": "+".join(languages_of(options["language"]))}
    job = document.jobs.filter(owner=None, **wanted).order_by("-created_at").first()
    if job is None or job.status == Job.Status.SUCCEEDED:
        return job
    if job.status in (Job.Status.FAILED, Job.Status.CANCELLED):
        job.retry()
        job.results.exclude(error="").delete()
    elif job.status == Job.Status.RUNNING:
        expired = OcrJob.objects.expired().filter(pk=job.pk, attempts=job.attempts)
        Job.objects.filter(pk__in=expired.values("pk")).update(status=Job.Status.QUEUED)
    return OcrJob.objects.lease(job.pk, worker=worker)
