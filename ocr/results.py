"""A job's result in the forms that people fetch: plain text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ocr.models import OcrJob, PageResult

# Between pages, as `tesseract` and `pdftotext` write it.
PAGE_BREAK = "\n\f"


def job_text(results: Iterable[PageResult]) -> str:
    """The pages' text in order; a form feed stands between two pages."""
    return PAGE_BREAK.join(result.text for result in results) + "\n"


def job_json(job: OcrJob, results: Iterable[PageResult]) -> dict[str, Any]:
    """Everything that was read, with where and by what. Geometry is in pixels of each page."""
    results = list(results)
    document = job.document
    return {
        "job": str(job.pk),
        "status": job.status,
        "document": {
            "id": str(document.pk),
            "name": document.name,
            "sha256": document.sha256,
            "media_type": document.media_type,
            "pages": document.page_count,
        },
        "engine": job.engine,
        "language": job.language,
        "min_confidence": job.min_confidence,
        "mean_confidence": job.mean_confidence,
        "seconds": job.seconds,
        "error": job.error or None,
        "text": job_text(results).rstrip("\n"),
        "pages": [page_json(result, job.min_confidence) for result in results],
    }


def page_json(result: PageResult, min_confidence: float) -> dict[str, Any]:
    return {
        "page": result.page.number,
        "width": result.width,
        "height": result.height,
        "dpi": result.dpi,
        "rotation": result.rotation,
        "skew": result.skew,
        "engine": result.engine,
        "model_version": result.model_version,
        "device": result.device,
        "language": result.language,
        "seconds": round(result.seconds, 3),
        "mean_confidence": result.mean_confidence,
        "note": result.note or None,
        "error": result.error or None,
        "text": result.text,
        "lines": lines_json(result, min_confidence),
        "blocks": result.blocks,
    }


def lines_json(result: PageResult, min_confidence: float) -> list[dict[str, Any]]:
    return [
        {**line, "low_confidence": line["confidence"] < min_confidence} for line in result.lines
    ]


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
