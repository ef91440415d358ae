"""Reads of the OCR app that put several rows together."""

from __future__ import annotations

from typing import Any

from ocr.models import OcrJob
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
