"""Writes of batches: many documents as one job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import job_enqueue, job_retry, webhook_url_check
from ocr.inbox import prefix_check
from ocr.intake import document_create
from ocr.job_rows import read_options, request_id, within
from ocr.models import BatchItem, Document, OcrBatch, OcrJob, PageResult

DEFAULTS: dict[str, Any] = {
    "engine": "auto",
    "language": "auto",
    "min_confidence": None,
    "dpi": None,
    "page_range": "",
    "text_layer": OcrJob.TextLayer.USE,
    "rotate": True,
    "force": False,
}


def ocr_options_check(**options: Any) -> None:
    """Raises ApplicationError for options that no document could be read with."""
    read_options(**{**DEFAULTS, **options})


def ocr_batch_submit(
    *,
    owner: User,
    source: str,
    name: str = "",
    documents: Sequence[Document] = (),
    files: Iterable[IO[bytes]] = (),
    prefix: str = "",
    priority: int = 5,
    webhook_url: str = "",
    **options: Any,
) -> OcrBatch:
    """One job over documents that are here, files that come now, and what lies below a prefix.

    A file that is refused is an item that says why; the others are read. Raises ApplicationError.
    """
    checked = read_options(**{**DEFAULTS, **options})
    within(priority, 0, 9, "priority")
    if prefix:
        prefix = prefix_check(prefix, user=owner)
    if webhook_url:
        webhook_url_check(url=webhook_url)
    items = [BatchItem(name=one.name, document=one) for one in documents]
    items += [_item(file, owner, source) for file in files]
    if not items and not prefix:
        raise ApplicationError(
            "Give documents, files or a prefix.", code="no_documents", param="documents"
        )
    with transaction.atomic():
        batch = OcrBatch.objects.create(
            kind=OcrBatch.KIND,
            queue=OcrBatch.QUEUE,
            max_attempts=settings.JOB_MAX_ATTEMPTS,
            priority=priority,
            owner=owner,
            name=(name or prefix or _named_after(items))[:200],
            prefix=prefix,
            progress_total=sum(item.document.page_count for item in items if item.document),
            webhook_url=webhook_url,
            sent_at=Now(),
            request_id=request_id(),
            **checked,
        )
        for item in items:
            item.batch = batch
        BatchItem.objects.bulk_create(items, batch_size=500)
        job_enqueue(job=batch)
    return batch


def ocr_batch_retry(*, job: Job) -> None:
    """Reads again what failed or was never taken in; what was read is kept."""
    with transaction.atomic():
        batch = OcrBatch.objects.get(pk=job.pk)
        job_retry(job=job)
        # An upload that was refused is not here to be tried again.
        batch.items.filter(~Q(path="") | Q(document__isnull=False)).update(error_code="", error="")
        ended = [Job.Status.FAILED, Job.Status.CANCELLED]
        for child in OcrJob.objects.filter(parent=job.pk, status__in=ended):
            child.retry()
            PageResult.objects.filter(job=child.pk).exclude(error="").delete()
            job_enqueue(job=child)


def _item(file: IO[bytes], owner: User, source: str) -> BatchItem:
    name = str(getattr(file, "name", "") or "document")
    try:
        document = document_create(file=file, name=name, owner=owner, source=source)
    except ApplicationError as error:
        return BatchItem(name=name[-500:], error_code=error.code, error=error.message)
    return BatchItem(name=document.name, document=document)


def _named_after(items: list[BatchItem]) -> str:
    return items[0].name if len(items) == 1 else f"{items[0].name} and {len(items) - 1} more"
