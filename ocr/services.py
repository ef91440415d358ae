"""Writes of the OCR app: documents and the jobs that read them."""

from __future__ import annotations

import hashlib
from typing import IO, Any

import structlog
from django.conf import settings
from django.core.files.base import File
from django.db import transaction

from mlops import engines
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr import routing
from ocr.languages import UnknownLanguage, parse_languages
from ocr.models import Document, OcrJob, Page
from ocr.pages import inspect
from ocr.runner import limits

log = structlog.get_logger(__name__)

CHUNK = 1024 * 1024


def document_create(*, file: IO[bytes], name: str, owner: User | None, source: str) -> Document:
    """Judges the file by its content and stores it with its rows. Raises BadDocument.

    `file` is read from its start; nothing is stored if it isn't a whole, acceptable document.
    """
    path = getattr(file, "temporary_file_path", None)
    info = inspect(path() if path else file, limits=limits())
    digest, size = _sha256(file)
    document = Document(
        owner=owner,
        # A name is shown and offered as a file name; it is never part of a path here.
        name=(name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "") or "document")[-255:],
        size=size,
        sha256=digest,
        media_type=info.media_type,
        extension=info.extension,
        page_count=info.pages,
        source=source,
    )
    file.seek(0)
    document.file.save(f"original{info.extension}", File(file), save=False)
    try:
        with transaction.atomic():
            document.save(force_insert=True)
            Page.objects.bulk_create(
                [Page(document=document, number=n + 1) for n in range(info.pages)], batch_size=500
            )
    except Exception:
        document.file.storage.delete(document.file.name)
        raise
    log.debug("document_stored", document_id=str(document.pk), pages=info.pages, bytes=size)
    return document


def document_reuse_or_create(
    *, file: IO[bytes], name: str, source: str, owner: User | None = None
) -> Document:
    """The owner's document with the same content, if there is one whose file is still there."""
    digest, _size = _sha256(file)
    known = Document.objects.filter(owner=owner, sha256=digest).first()
    if known is not None and known.file.storage.exists(known.file.name):
        return known
    return document_create(file=file, name=name, owner=owner, source=source)


def document_delete(*, document: Document) -> None:
    """Deletes the document with its jobs and results, and its file once that is certain."""
    storage, name = document.file.storage, document.file.name
    with transaction.atomic():
        document.delete()
        transaction.on_commit(lambda: storage.delete(name))


def ocr_job_create(
    *,
    document: Document,
    owner: User | None,
    engine: str = "auto",
    language: str = "auto",
    min_confidence: float | None = None,
    dpi: int | None = None,
    priority: int = 3,
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
        progress_total=document.page_count,
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


def _sha256(file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
