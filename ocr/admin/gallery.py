"""A document's pages as pictures, and the jobs that read them, as the console shows them."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest
from django.urls import reverse

from mlops import display
from ocr.models import Document, OcrJob, PageResult

GALLERY = 24


def gallery(request: HttpRequest, document: Document, job: OcrJob | None) -> dict[str, Any]:
    """The pages as pictures, with what `job` made of each; `?gallery=2` turns to the next ones."""
    sheets = Paginator(document.pages.order_by("number"), GALLERY)
    sheet = sheets.get_page(request.GET.get("gallery"))
    numbers = [page.number for page in sheet]
    read = {}
    if job:
        found = job.results.filter(page__number__in=numbers).defer("text", "lines")
        read = {result.page.number: result for result in found.select_related("page")}
    return {
        "sheet": sheet,
        "job": job,
        "pages": [_gallery_page(document, job, n, read.get(n)) for n in numbers],
    }


def _gallery_page(
    document: Document, job: OcrJob | None, number: int, result: PageResult | None
) -> dict[str, Any]:
    image = reverse("admin:ocr_document_page_image", args=[document.pk, number])
    threshold = job.min_confidence if job else 0
    return {
        "number": number,
        "image": f"{image}?max_side=320&rotation={result.rotation if result else 0}",
        "url": reverse("admin:ocr_viewer", args=[job.pk, number]) if job else image,
        "read": result is not None,
        "error": result.error if result else "",
        "confidence": display.confidence(result.mean_confidence, threshold) if result else "",
    }


def job_row(job: OcrJob) -> dict[str, Any]:
    source = reverse("admin:ocr_ocrjob_progress")
    return {
        "job": job,
        "url": display.job_url(job),
        "status": display.live(job, "status_label", display.status_label(job), source),
        "progress": display.live(job, "progress", display.progress_bar(job), source),
        "confidence": display.confidence(job.mean_confidence, job.min_confidence),
        "created": display.moment(job.created_at),
    }
