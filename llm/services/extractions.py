"""Writes of extractions: asked for, one by one or many at once, and done again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from llm.extraction_rows import extraction_create, extraction_options, reading_of
from llm.models import ExtractionBatch, ExtractionJob
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from mlops.services import job_enqueue, job_retry, webhook_url_check
from ocr.intake import document_create
from ocr.job_rows import ocr_job_create, request_id, within
from ocr.models import Document, OcrBatch, OcrJob
from ocr.services import document_delete, ocr_job_retry

log = structlog.get_logger(__name__)

MOST_DOCUMENTS = 50_000
# What is said of a job beside what is to be extracted.
_OF_THE_JOB = ("priority", "webhook_url")


def extraction_submit(
    *,
    owner: User | None,
    document: Document | None = None,
    ocr_job: OcrJob | None = None,
    priority: int = 3,
    webhook_url: str = "",
    **options: Any,
) -> ExtractionJob:
    """An extraction from a document or from what one OCR job read; `options` as for
    `extraction_options`. The document is read first if it must be. Raises ApplicationError.
    """
    checked = extraction_options(user=owner, **options)
    if webhook_url:
        webhook_url_check(url=webhook_url)
    document = document or (ocr_job.document if ocr_job else None)
    if document is None:
        raise ApplicationError(
            "Give a document, a file or an OCR job.", code="no_document", param="document"
        )
    with transaction.atomic():
        job = extraction_create(
            document=document,
            owner=owner,
            options=checked,
            ocr_job=ocr_job,
            priority=priority,
            webhook_url=webhook_url,
        )
    log.debug("extraction_submitted", job_id=str(job.pk), document_id=str(document.pk))
    return job


def extraction_upload(
    *, file: IO[bytes], owner: User | None, source: str, **options: Any
) -> ExtractionJob:
    """An upload and its extraction in one: if that can't be made, the document isn't kept."""
    asked = {name: value for name, value in options.items() if name not in _OF_THE_JOB}
    extraction_options(user=owner, **asked)
    document = document_create(
        file=file, name=getattr(file, "name", "") or "", owner=owner, source=source
    )
    try:
        return extraction_submit(document=document, owner=owner, **options)
    except ApplicationError:
        document_delete(document=document)
        raise


def extraction_retry(*, job: Job) -> None:
    """Queues a failed or cancelled extraction again, and first its reading if that failed."""
    with transaction.atomic():
        extraction = ExtractionJob.objects.select_related("document", "ocr_job").get(pk=job.pk)
        if extraction.status not in (Job.Status.FAILED, Job.Status.CANCELLED):
            raise NotAllowed(
                f"Only a failed or cancelled job can be retried; this one is {extraction.status}."
            )
        reading = extraction.ocr_job
        if reading is None:
            reading = _read_anew(extraction)
        elif reading.status in (Job.Status.FAILED, Job.Status.CANCELLED):
            ocr_job_retry(job=reading)
        ExtractionJob.objects.filter(pk=job.pk).update(
            ocr_job=reading, after=None if reading.finished else reading
        )
        job_retry(job=extraction)
    job.refresh_from_db()


def _read_anew(extraction: ExtractionJob) -> OcrJob:
    options = {"ocr_engine": extraction.ocr_engine, "language": extraction.language}
    found = reading_of(extraction.document, owner=extraction.owner, options=options)
    if found is None:
        found = ocr_job_create(
            document=extraction.document,
            owner=extraction.owner,
            engine=extraction.ocr_engine,
            language=extraction.language,
            priority=extraction.priority,
            sent=True,
        )
        job_enqueue(job=found)
    return found


# -- batches --------------------------------------------------------------------------------------


def extraction_batch_submit(
    *,
    owner: User,
    source: str,
    documents: Sequence[Document] = (),
    files: Iterable[IO[bytes]] = (),
    ocr_batch: OcrBatch | None = None,
    name: str = "",
    priority: int = 5,
    webhook_url: str = "",
    **options: Any,
) -> ExtractionBatch:
    """One job over documents, uploads, and all that an OCR batch has taken in.

    A file that is refused is a failure that says why; values are taken from the others. Raises
    ApplicationError, and NotAllowed for an OCR batch that has not ended.
    """
    checked = extraction_options(user=owner, **options)
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    found, failures = _batch_documents(owner, source, documents, files, ocr_batch)
    if not found and not failures:
        raise ApplicationError(
            "Give documents, files or an OCR batch that has any.",
            code="no_documents",
            param="documents",
        )
    first = next(iter(found.values()), "") or failures[0]["document"]
    rest = len(found) + len(failures) - 1
    with transaction.atomic():
        batch = ExtractionBatch.objects.create(
            kind=ExtractionBatch.KIND,
            queue=ExtractionBatch.QUEUE,
            max_attempts=settings.JOB_MAX_ATTEMPTS,
            priority=priority,
            owner=owner,
            name=(name or (f"{first} and {rest} more" if rest else first))[:200],
            documents=list(found),
            failures=failures,
            progress_total=len(found),
            webhook_url=webhook_url,
            sent_at=Now(),
            request_id=request_id(),
            **checked,
        )
        job_enqueue(job=batch)
    return batch


def _batch_documents(
    owner: User,
    source: str,
    documents: Sequence[Document],
    files: Iterable[IO[bytes]],
    ocr_batch: OcrBatch | None,
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Names by id, and what could not be taken in."""
    found = {str(one.pk): one.name for one in documents}
    failures = []
    if ocr_batch is not None:
        if not ocr_batch.finished:
            raise NotAllowed(
                "The OCR batch has not ended yet. Wait for its end, or name its documents.",
                code="batch_not_ended",
            )
        items = ocr_batch.items.filter(document__isnull=False)
        found |= {str(pk): name for pk, name in items.values_list("document", "name")}
    for file in files:
        file_name = str(getattr(file, "name", "") or "document")
        try:
            made = document_create(file=file, name=file_name, owner=owner, source=source)
        except ApplicationError as error:
            failures.append({"document": file_name, "code": error.code, "message": error.message})
        else:
            found[str(made.pk)] = made.name
    if len(found) > MOST_DOCUMENTS:
        raise ApplicationError(
            f"These are {len(found)} documents; a batch takes {MOST_DOCUMENTS}.",
            code="too_many_documents",
            param="documents",
        )
    return found, failures


def extraction_batch_retry(*, job: Job) -> None:
    """Goes over what failed again, and over what could not be taken up; the rest is kept."""
    with transaction.atomic():
        batch = ExtractionBatch.objects.get(pk=job.pk)
        job_retry(job=job)
        # An upload that was refused is not here to be tried again.
        ids = set(batch.documents)
        kept = [one for one in batch.failures if one["document"] not in ids]
        ExtractionBatch.objects.filter(pk=job.pk).update(failures=kept)
        ended = [Job.Status.FAILED, Job.Status.CANCELLED]
        for child in ExtractionJob.objects.filter(parent=job.pk, status__in=ended):
            extraction_retry(job=child)
    job.refresh_from_db()
