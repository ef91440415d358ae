"""Reads of the OCR app that put several rows together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Count, Q

from mlops.models import Job
from ocr.models import OcrBatch, OcrJob
from ocr.results import job_text, lines_json


def extract_data(job: OcrJob) -> dict[str, Any]:
    """`data` of the sync endpoint: `text_boxes`, `full_text`, `status`, `error` and more.

    A box under the threshold is there, with `low_confidence` true.
    """
    results = list(job.results.select_related("page").order_by("page__number"))
    return {
        "status": job.status,
        "error": job.error or None,
        "job": str(job.pk),
        "document": str(job.document_id),
        "full_text": job_text(results).rstrip("\n"),
        "mean_confidence": job.mean_confidence,
        "text_boxes": [
            {"page": result.page.number, **line}
            for result in results
            for line in lines_json(result, job.min_confidence)
        ],
        "pages": [
            {
                "page": result.page.number,
                "width": result.width,
                "height": result.height,
                "dpi": result.dpi,
                "engine": result.engine,
                "language": result.language,
                "model_version": result.model_version,
                "note": result.note or None,
            }
            for result in results
        ],
    }


def batch_failures(batch: OcrBatch) -> Iterator[dict[str, Any]]:
    """What was not read whole, and why: documents that were refused, failed or cancelled."""
    refused = Q(error__gt="")
    ended = Q(job__status__in=[Job.Status.FAILED, Job.Status.CANCELLED])
    items = batch.items.filter(refused | ended).select_related("job").order_by("pk")
    for item in items.iterator(chunk_size=500):
        job = item.job
        yield {
            "name": item.name,
            "document": str(item.document_id) if item.document_id else None,
            "job": str(job.pk) if job else None,
            "status": job.status if job else "refused",
            "code": item.error_code or (job.error_code if job else "") or "cancelled",
            "message": item.error or (job.error if job else "") or "The job was cancelled.",
        }


def batch_counts(batch: OcrBatch) -> dict[str, int]:
    """Documents of the batch by what became of them."""
    return batch.items.aggregate(
        total=Count("pk"),
        waiting=Count("pk", filter=Q(job=None, error="")),
        refused=Count("pk", filter=Q(error__gt="")),
        **{status: Count("pk", filter=Q(job__status=status)) for status in Job.Status.values},
    )
