"""A job's result as plain text and JSON; `ocr.exports` writes these and the other formats."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ocr.models import OcrJob, PageResult, PageReview

# Between pages, as `tesseract` and `pdftotext` write it.
PAGE_BREAK = "\n\f"
_LINE = ("text", "confidence", "polygon", "spans")


@dataclass(frozen=True, slots=True)
class Content:
    """What a page says: `lines` and `blocks` as PageResult keeps them."""

    text: str
    lines: list[dict[str, Any]]
    blocks: list[dict[str, Any]]


def content(result: PageResult, *, corrected: bool = False) -> Content:
    """The page as it was read or, with `corrected`, as people have left it since.

    The one place that every format takes its lines from. Select `review` along with the results.
    """
    said = result.review if corrected and _reviewed(result) else result
    # What a review keeps of a line beside these is its own affair.
    lines = [{key: one[key] for key in _LINE if key in one} for one in said.lines]
    return Content(text=said.text, lines=lines, blocks=said.blocks)


def job_text(results: Iterable[PageResult]) -> str:
    """The pages' text in order; a form feed stands between two pages."""
    return PAGE_BREAK.join(content(result).text for result in results) + "\n"


def job_json(job: OcrJob, results: Iterable[PageResult]) -> dict[str, Any]:
    """Everything that was read, with where and by what. Geometry is in pixels of each page."""
    results = list(results)
    return job_head(job) | {
        "text": job_text(results).rstrip("\n"),
        "pages": [page_json(result, job.min_confidence) for result in results],
    }


def job_head(job: OcrJob) -> dict[str, Any]:
    """What is said of the job as a whole."""
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
    }


def page_json(
    result: PageResult, min_confidence: float, *, corrected: bool = False
) -> dict[str, Any]:
    page = content(result, corrected=corrected)
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
        "text": page.text,
        "lines": _flagged(page.lines, min_confidence),
        "blocks": page.blocks,
    }


def lines_json(result: PageResult, min_confidence: float) -> list[dict[str, Any]]:
    return _flagged(content(result).lines, min_confidence)


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _flagged(lines: list[dict[str, Any]], min_confidence: float) -> list[dict[str, Any]]:
    return [{**line, "low_confidence": line["confidence"] < min_confidence} for line in lines]


def _reviewed(result: PageResult) -> bool:
    try:
        return result.review is not None
    except PageReview.DoesNotExist:
        return False
