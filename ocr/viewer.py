"""The page viewer: a page's image with the boxes of its lines, and the lines beside it."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from mlops.display import confidence_level, duration, percent, status_label
from mlops.exceptions import ApplicationError
from ocr.models import Document, OcrJob, PageResult
from ocr.page_response import page_image_response

# Less, in degrees, is no more than the boxes' own inaccuracy.
LEANING = 0.3


@require_safe
def viewer(request: HttpRequest, job_id: uuid.UUID, number: int) -> HttpResponse:
    """Page `number`, counted from 1, as the job read it."""
    job = _job(request, job_id)
    page = get_object_or_404(job.document.pages, number=number)
    result = job.results.filter(page=page).first()
    lines = viewer_lines(result, job.min_confidence) if result else []
    context = {
        **admin.site.each_context(request),
        "title": f"Page {number} of {job.document}",
        "opts": OcrJob._meta,
        "original": job,
        "job": job,
        "document": job.document,
        "number": number,
        "result": result,
        "lines": lines,
        "low_count": sum(line["level"] == "low" for line in lines),
        "facts": viewer_facts(job, result),
        "status": status_label(job),
        "threshold": percent(job.min_confidence),
        "image_url": reverse("admin:ocr_page_image", args=[job.pk, number]),
        "previous_url": _page_url(job, number - 1),
        "next_url": _page_url(job, number + 1),
        "result_url": reverse("ocrjob-result", args=[job.pk]) if job.finished else None,
        "file_stem": job.document.name.rpartition(".")[0] or job.document.name,
    }
    return render(request, "ocr/viewer.html", context)


@require_safe
def job_page_image(request: HttpRequest, job_id: uuid.UUID, number: int) -> HttpResponse:
    """As the job read it, upright and at its resolution: its pixels are those of the polygons."""
    job = _job(request, job_id)
    read = job.results.filter(page__number=number).values_list("dpi", "rotation").first()
    dpi, rotation = read or (None, 0)
    return _image(request, job.document, number, dpi=dpi or job.dpi, rotation=rotation)


@require_safe
def document_page_image(request: HttpRequest, document_id: uuid.UUID, number: int) -> HttpResponse:
    if not request.user.has_perm("ocr.view_document"):
        raise PermissionDenied
    document = get_object_or_404(Document.objects.visible_to(request.user), pk=document_id)
    return _image(request, document, number)


def viewer_lines(result: PageResult, threshold: float) -> list[dict[str, Any]]:
    """The lines in reading order, with what the page shows of each."""
    return [
        {
            "text": line["text"],
            "percent": round(line["confidence"] * 100),
            "level": confidence_level(line["confidence"], threshold),
            "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in line["polygon"]),
        }
        for line in result.lines
    ]


def viewer_facts(job: OcrJob, result: PageResult | None) -> list[tuple[str, str]]:
    """What read the page, as pairs of a name and a value."""
    if result is None:
        return [("Engine", job.engine), ("Language", job.language)]
    return [
        (name, value)
        for name, value in (
            ("Engine", result.engine or job.engine),
            ("Model", result.model_version),
            ("Language", result.language or job.language),
            ("Device", result.device),
            ("Time", duration(result.seconds)),
            ("Mean confidence", percent(result.mean_confidence)),
            ("Lines", str(len(result.lines))),
            ("Resolution", f"{result.width} × {result.height}"),  # noqa: RUF001
            ("Turned by", f"{result.rotation}° clockwise" if result.rotation else ""),
            ("Skew", f"{result.skew:.1f}°" if abs(result.skew) >= LEANING else ""),
        )
        if value
    ]


def _job(request: HttpRequest, pk: uuid.UUID) -> OcrJob:
    if not request.user.has_perm("ocr.view_ocrjob"):
        raise PermissionDenied
    jobs = OcrJob.objects.visible_to(request.user).select_related("document")
    return get_object_or_404(jobs, pk=pk)


def _page_url(job: OcrJob, number: int) -> str | None:
    if 1 <= number <= job.document.page_count:
        return reverse("admin:ocr_viewer", args=[job.pk, number])
    return None


def _image(
    request: HttpRequest, document: Document, number: int, **how: int | None
) -> HttpResponse:
    try:
        return page_image_response(request, document, number, **how)
    except ApplicationError as error:
        return HttpResponse(error.message, status=error.status, content_type="text/plain")
