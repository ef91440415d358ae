"""Writes of the jobs that read documents."""

from __future__ import annotations

from typing import IO, Any

import structlog
from django.conf import settings
from django.db import transaction

from mlops import engines
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr import routing
from ocr.languages import UnknownLanguage, parse_languages
from ocr.models import Document, OcrJob
from ocr.page_range import parse_page_range
from ocr.services.documents import document_create, document_delete

log = structlog.get_logger(__name__)


def ocr_job_create(
    *,
    document: Document,
    owner: User | None,
    engine: str = "auto",
    language: str = "auto",
    min_confidence: float | None = None,
    dpi: int | None = None,
    priority: int = 3,
    page_range: str = "",
    text_layer: str = OcrJob.TextLayer.USE,
    rotate: bool = True,
) -> OcrJob:
    """The row of a job, not yet sent to anyone. Raises ApplicationError for what can't be done."""
    languages = _languages(language)
    routing.choose(
        engines.specs("ocr"),
        engine=engine,
        languages=languages,
        default=settings.OCR_DEFAULT_ENGINE,
    )
    confidence = settings.OCR_MIN_CONFIDENCE if min_confidence is None else min_confidence
    _within(confidence, 0, 1, "min_confidence")
    dpi = dpi or settings.OCR_DPI
    _within(dpi, 50, 600, "dpi")
    _within(priority, 0, 9, "priority")
    pages = parse_page_range(page_range, document.page_count)
    if text_layer not in OcrJob.TextLayer.values:
        raise ApplicationError(
            f"text_layer is '{text_layer}'; choose one of: {', '.join(OcrJob.TextLayer.values)}.",
            code="unknown_choice",
            param="text_layer",
        )
    return OcrJob.objects.create(
        kind=OcrJob.KIND,
        queue=OcrJob.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        priority=priority,
        owner=owner,
        document=document,
        engine=engine,
        language="+".join(languages),
        min_confidence=confidence,
        dpi=dpi,
        page_range=page_range,
        text_layer=text_layer,
        rotate=rotate,
        progress_total=len(pages),
        request_id=str(structlog.contextvars.get_contextvars().get("request_id", ""))[:100],
    )


def ocr_job_submit(*, document: Document, **options: Any) -> OcrJob:
    """Creates the job and sends it to a worker; options as for `ocr_job_create`."""
    with transaction.atomic():
        job = ocr_job_create(document=document, **options)
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
        job.retry()
        OcrJob.objects.get(pk=job.pk).results.exclude(error="").delete()
        job_enqueue(job=job)


def ocr_job_resume(*, document: Document, worker: str, options: dict[str, Any]) -> OcrJob | None:
    """The document's latest job with the same options, to go on with, leased unless it succeeded.

    None if there is none, or another process is at it.
    """
    wanted = {**options, "language": "+".join(_languages(options["language"]))}
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


def _languages(language: str) -> tuple[str, ...]:
    try:
        return parse_languages(language)
    except UnknownLanguage as error:
        raise ApplicationError(str(error), code="unknown_language", param="language") from error


def _within(value: float, low: float, high: float, param: str) -> None:
    if not low <= value <= high:
        raise ApplicationError(
            f"{param} is {value}; it must be from {low} to {high}.",
            code="out_of_range",
            param=param,
        )
