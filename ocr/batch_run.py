"""What a batch itself does: take its documents in and make a job for each; then it waits."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Sum

from mlops.exceptions import ApplicationError, JobFailed, JobWaits
from mlops.jobs import JobContext
from mlops.models import Job
from mlops.services import job_enqueue
from ocr.inbox import files_below
from ocr.intake import document_reuse_or_create
from ocr.job_rows import ocr_job_create
from ocr.models import BatchItem, Document, OcrBatch

log = structlog.get_logger(__name__)

MOST_DOCUMENTS = 50_000
AT_ONCE = 200


def run(batch: OcrBatch, context: JobContext) -> None:
    """Makes the jobs that are not there yet. Raises JobWaits: the batch ends with the last."""
    if batch.prefix:
        _list_prefix(batch)
    for count, item in enumerate(_open_items(batch)):
        context.check()
        _take_up(batch, item)
        if count % 20 == 0:
            _sum_up(batch, context)
    raise JobWaits


def _list_prefix(batch: OcrBatch) -> None:
    """An item for each file; those that an earlier attempt has listed stay as they are."""
    items: list[BatchItem] = []
    for count, path in enumerate(files_below(batch.prefix)):
        if count == MOST_DOCUMENTS:
            raise JobFailed(
                f"There are more than {MOST_DOCUMENTS} documents below {batch.prefix}. "
                "Name a narrower prefix.",
                code="too_many_documents",
            )
        items.append(BatchItem(batch=batch, name=path.removeprefix(batch.prefix), path=path))
        if len(items) == AT_ONCE:
            BatchItem.objects.bulk_create(items, ignore_conflicts=True)
            items.clear()
    BatchItem.objects.bulk_create(items, ignore_conflicts=True)


def _open_items(batch: OcrBatch) -> Iterator[BatchItem]:
    """Items without a job, a few at a time: a batch may have tens of thousands."""
    after = 0
    while True:
        items = batch.items.filter(job=None, error="", pk__gt=after).order_by("pk")
        chunk = list(items.select_related("document")[:AT_ONCE])
        if not chunk:
            return
        yield from chunk
        after = chunk[-1].pk


def _take_up(batch: OcrBatch, item: BatchItem) -> None:
    """Its document and its job; what is wrong with it is written on the item."""
    try:
        document = item.document or _take_in(batch, item)
        with transaction.atomic():
            job = ocr_job_create(
                document=document,
                owner=batch.owner,
                engine=batch.engine,
                language=batch.language,
                min_confidence=batch.min_confidence,
                dpi=batch.dpi,
                page_range=batch.page_range,
                text_layer=batch.text_layer,
                rotate=batch.rotate,
                force=batch.force,
                priority=batch.priority,
                parent=batch,
                sent=True,
            )
            BatchItem.objects.filter(pk=item.pk).update(document=document, job=job)
            job_enqueue(job=job)
    except ApplicationError as error:
        BatchItem.objects.filter(pk=item.pk).update(error_code=error.code, error=error.message)
        log.info("batch_item_refused", item=item.name, error=error.message)


def _take_in(batch: OcrBatch, item: BatchItem) -> Document:
    if not item.path:
        raise ApplicationError("The document has been deleted.", code="document_deleted")
    try:
        with default_storage.open(item.path) as file:
            return document_reuse_or_create(
                file=file, name=item.name, source=Document.Source.API, owner=batch.owner
            )
    except FileNotFoundError as error:
        raise ApplicationError(
            f"{item.path} is no longer in the storage.", code="file_missing"
        ) from error


def _sum_up(batch: OcrBatch, context: JobContext) -> None:
    sums = Job.objects.filter(parent=batch.pk).aggregate(
        done=Sum("progress_done"), total=Sum("progress_total")
    )
    context.write_progress(sums["done"] or 0, sums["total"] or 0)
