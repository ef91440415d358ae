"""Two jobs of one document side by side, a page at a time."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe
from unfold.widgets import UnfoldAdminSelectWidget

from mlops import display
from mlops.exceptions import ApplicationError
from mlops.models import Job
from ocr.compare import Comparison, Row, Side, compare, compared_jobs
from ocr.models import Document, OcrJob, PageResult


class CompareForm(forms.Form):
    """Which two of a document's jobs; each is named by when it was, and by what read."""

    a = forms.ChoiceField(label="Compare", widget=UnfoldAdminSelectWidget)
    b = forms.ChoiceField(label="with", widget=UnfoldAdminSelectWidget)

    def __init__(self, jobs: list[OcrJob], **chosen: uuid.UUID) -> None:
        super().__init__({name: str(pk) for name, pk in chosen.items()})
        named = [(str(job.pk), _name(job)) for job in jobs]
        self.fields["a"].choices = self.fields["b"].choices = named


@require_safe
def compare_view(request: HttpRequest) -> HttpResponse:
    """`?a=&b=&page=`; with `?document=` alone its two latest jobs."""
    if not request.user.has_perm("ocr.view_ocrjob"):
        raise PermissionDenied
    if "document" in request.GET:
        return _latest(request)
    try:
        a, b = (uuid.UUID(request.GET.get(name, "")) for name in ("a", "b"))
        jobs = compared_jobs(request.user, a, b)
    except (ValueError, ApplicationError) as error:
        text = error.message if isinstance(error, ApplicationError) else "Choose two jobs."
        messages.warning(request, text)
        return redirect("admin:ocr_ocrjob_changelist")
    different = jobs.different()
    number = _page_number(request, different)
    pair = next(jobs.pairs(number), None)
    document = jobs.a.document
    choices = OcrJob.objects.visible_to(request.user).filter(document=document)

    def url(page: int | None) -> str | None:
        return page and f"?{urlencode({'a': a, 'b': b, 'page': page})}"

    context = {
        **admin.site.each_context(request),
        "title": f"Compare readings of {document}",
        "opts": OcrJob._meta,
        "document": document,
        "document_url": reverse("admin:ocr_document_change", args=[document.pk]),
        "form": CompareForm(list(choices.order_by("-created_at")), a=a, b=b),
        "number": number,
        "different": different,
        "previous_url": url(max((page for page in different if page < number), default=None)),
        "next_url": url(min((page for page in different if page > number), default=None)),
        "swap_url": f"?{urlencode({'a': b, 'b': a, 'page': number})}",
        "pair": pair and _shown(*pair),
    }
    return render(request, "ocr/compare.html", context)


def _latest(request: HttpRequest) -> HttpResponse:
    try:
        pk = uuid.UUID(request.GET["document"])
    except ValueError:
        return redirect("admin:ocr_document_changelist")
    document = get_object_or_404(Document.objects.visible_to(request.user), pk=pk)
    jobs = OcrJob.objects.visible_to(request.user).filter(document=document)
    latest = list(jobs.order_by("-created_at")[:2])
    if len(latest) < 2:
        messages.warning(request, "Read the document once more, with another engine, to compare.")
        return redirect("admin:ocr_document_change", document.pk)
    query = urlencode({"a": latest[1].pk, "b": latest[0].pk})
    return redirect(f"{reverse('admin:ocr_compare')}?{query}")


def _page_number(request: HttpRequest, different: list[int]) -> int:
    asked = request.GET.get("page", "")
    return int(asked) if asked.isdecimal() else next(iter(different), 1)


def _shown(a: PageResult, b: PageResult) -> dict[str, Any]:
    comparison = compare(a, b)
    sides = {"a": a, "b": b}
    image = reverse("admin:ocr_page_image", args=[a.job_id, a.page.number])
    return {
        "a": a,
        "b": b,
        "image": image,
        "facts": _facts(comparison, sides),
        "same": not any(row.differs for row in comparison.rows),
        "rows": [
            {
                "number": number,
                "a": row.pieces("a"),
                "b": row.pieces("b"),
                "differs": row.differs,
                "boxes": [
                    {"side": side, "points": points}
                    for side in ("a", "b")
                    for points in _points(row, side, sides[side], a)
                ],
            }
            for number, row in enumerate(comparison.rows, 1)
        ],
    }


def _facts(comparison: Comparison, sides: dict[Side, PageResult]) -> list[tuple[str, str]]:
    words = " | ".join(
        f"{comparison.differing[side]} of {comparison.words[side]}" for side in sides
    )
    confidences = " | ".join(display.percent(result.mean_confidence) for result in sides.values())
    return [
        ("CER between them", display.percent(comparison.cer)),
        ("Words that differ", words),
        ("Mean confidence", confidences),
        ("Time", " | ".join(display.duration(result.seconds) for result in sides.values())),
    ]


def _points(row: Row, side: Side, result: PageResult, shown: PageResult) -> list[str]:
    """The row's boxes in pixels of the image that is shown, which is A's.

    A page that was turned otherwise, or not drawn alike, has its boxes somewhere else.
    """
    if result.rotation != shown.rotation or not result.width or not result.height:
        return []
    across, down = shown.width / result.width, shown.height / result.height
    polygons = [result.lines[number]["polygon"] for number in sorted(row.lines[side])]
    return [
        " ".join(f"{x * across:.1f},{y * down:.1f}" for x, y in polygon) for polygon in polygons
    ]


def _name(job: OcrJob) -> str:
    ended = "" if job.status == Job.Status.SUCCEEDED else f", {job.get_status_display().lower()}"
    moment = f"{timezone.localtime(job.created_at):%Y-%m-%d %H:%M}"
    return f"{job.engine} · {job.language or 'auto'} · {moment}{ended}"
