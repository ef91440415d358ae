"""Corrections by models in the console: asked for, looked at beside the page, taken over."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from llm.correction.differences import differences
from llm.models import PageFix, TextFix
from llm.retrieval.state import writers
from llm.services import text_fixes as services
from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from ocr.models import OcrJob
from ocr.models.review import reviewable_results

# As many pages as a correction's own page lists.
SHOWN = 200
# Readings in the list of the form.
OFFERED = 100


class AcceptForm(forms.Form):
    """Numbers of the lines that somebody has ticked."""

    lines = forms.TypedMultipleChoiceField(coerce=int, required=False)

    def __init__(self, page: PageFix, data: Any) -> None:
        super().__init__(data)
        numbers = [line["line"] for line in page.lines]
        self.fields["lines"].choices = [(number, number) for number in numbers]


class StartForm(forms.Form):
    """Which reading is to be corrected, and by which model."""

    reading = forms.ModelChoiceField(
        OcrJob.objects.none(), widget=UnfoldAdminSelectWidget, label="Reading"
    )
    model = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    page_range = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        label="Pages",
        help_text="such as 1-3,7; empty for all",
    )

    def __init__(self, user: User, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        read = OcrJob.objects.visible_to(user).filter(status=Job.Status.SUCCEEDED)
        # The latest ones, and any that a link has named.
        latest = read.order_by("-created_at").values_list("pk", flat=True)[:OFFERED]
        named = self.initial.get("reading") or self.data.get("reading")
        offered = Q(pk__in=list(latest))
        with suppress(ValueError):
            offered |= Q(pk=uuid.UUID(str(named)))
        self.fields["reading"].queryset = (
            read.filter(offered).select_related("document").order_by("-created_at")
        )
        self.fields["reading"].label_from_instance = _reading_name
        self.fields["model"].choices = [(name, name) for name in writers()]


@admin.register(TextFix)
class TextFixAdmin(JobAdminBase):
    list_display = (
        *("title", "status_label", "progress", "changed", "cer"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "asked_model", "created_at", "owner")
    search_fields = ("ocr_job__document__name", "asked_model", "id", "error")
    list_select_related = ("owner", "ocr_job__document")
    live_cells = (*JobAdminBase.live_cells, "changed", "cer")
    change_form_template = "llm/text_fix_change_form.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("llm.add_textfix")

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        given = (request.POST,) if request.method == "POST" else ()
        form = StartForm(request.user, *given, initial=request.GET.dict())
        if given and form.is_valid():
            chosen = dict(form.cleaned_data)
            try:
                job = services.text_fix_submit(
                    ocr_job=chosen.pop("reading"), owner=request.user, **chosen
                )
            except ApplicationError as error:
                form.add_error(None, error.message)
            else:
                return redirect("admin:llm_textfix_change", job.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": "Correct a reading",
            "opts": self.opts,
            "media": self.media + form.media,
            "form": form,
        }
        return render(request, "llm/text_fix_start.html", context)

    # -- columns ------------------------------------------------------------------------------

    @column(description="Document", ordering="ocr_job__document__name")
    def title(self, job: TextFix) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">by {1}</span>',
            job.ocr_job.document.name,
            job.asked_model,
        )

    @column(description="Lines changed")
    def changed(self, job: TextFix) -> SafeString:
        figures = job.figures()
        shown = f"{figures['lines_changed']:,}"
        if figures["lines_refused"]:
            shown += f" ({figures['lines_refused']:,} refused)"
        return self.live(job, "changed", shown)

    @column(description="CER")
    def cer(self, job: TextFix) -> SafeString:
        """Before and after, where people have accepted the pages' text."""
        figures = job.figures()
        shown = display.NOTHING
        if figures["pages_scored"]:
            before, after = figures["cer_before"], figures["cer_after"]
            shown = f"{display.percent(before)} → {display.percent(after)}"
        return self.live(job, "cer", shown)

    @column(description="Read by")
    def reading(self, job: TextFix) -> SafeString:
        url = reverse("admin:ocr_ocrjob_change", args=[job.ocr_job_id])
        return display.link(url, f"{job.ocr_job.document}, {job.ocr_job.engine}")

    @column(description="Changes a line by")
    def bound(self, job: TextFix) -> str:
        return f"{job.max_change:.0%} of its characters at most"

    @column(description="Tokens")
    def tokens(self, job: TextFix) -> str:
        return f"{job.prompt_tokens:,} read, {job.completion_tokens:,} written"

    def get_fieldsets(self, request: HttpRequest, obj: TextFix | None = None) -> list[Any]:
        shown = (("reading", "status_label"), ("asked_model", "progress"), ("changed", "cer"))
        run = (("owner", "created"), ("worker", "duration"), ("bound", "tokens"), "mlflow")
        return [
            (None, {"fields": shown}),
            *self.error_fieldsets(obj),
            ("Run", {"classes": ("collapse",), "fields": run}),
        ]

    # -- pages --------------------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        job = self.get_object(request, object_id) if object_id else None
        extra: dict[str, Any] = {}
        if job:
            pages = job.pages.select_related("result__page")
            extra["page_rows"] = [_row(job, page) for page in pages[:SHOWN]]
            extra["page_count"] = pages.count()
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path(
                "<uuid:object_id>/pages/<int:number>/",
                view(self.page_view),
                name="llm_text_fix_page",
            ),
            *super().get_urls(),
        ]

    def page_view(self, request: HttpRequest, object_id: uuid.UUID, number: int) -> HttpResponse:
        """The page's image beside both texts; POST takes the ticked changes over."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        job = get_object_or_404(self.get_queryset(request), pk=object_id)
        pages = job.pages.select_related("result__page", "fix")
        page = get_object_or_404(pages, result__page__number=number)
        if request.method == "POST":
            return self._accept(request, page)
        numbers = list(pages.values_list("result__page__number", flat=True))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Correction of {page.result.page}",
            "opts": self.opts,
            "job": job,
            "job_url": display.job_url(job),
            "document": job.ocr_job.document,
            "number": number,
            "fix": page,
            "result": page.result,
            "facts": _facts(page),
            "rows": _rows(page),
            "image": reverse("admin:ocr_page_image", args=[job.ocr_job_id, number]),
            "may_accept": self._may_accept(request, page),
            "review_url": reverse("admin:ocr_review", args=[page.result_id]),
            "previous_url": _page_url(job, max((n for n in numbers if n < number), default=None)),
            "next_url": _page_url(job, min((n for n in numbers if n > number), default=None)),
        }
        return render(request, "llm/text_fix_page.html", context)

    def _accept(self, request: HttpRequest, page: PageFix) -> HttpResponse:
        if not self._may_accept(request, page):
            raise PermissionDenied
        form = AcceptForm(page, request.POST)
        number = page.result.page.number
        here = redirect("admin:llm_text_fix_page", page.fix_id, number)
        if not form.is_valid() or not form.cleaned_data["lines"]:
            self.message_user(request, "Tick the lines to take over.", messages.WARNING)
            return here
        try:
            done = services.text_fix_accept(
                page=page, user=request.user, lines=form.cleaned_data["lines"]
            )
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return here
        said = f"{done.lines} line{'' if done.lines == 1 else 's'} taken over into the review."
        if done.skipped:
            said += f" {done.skipped} had been changed by people and stay so."
        self.message_user(request, said, messages.SUCCESS)
        return here

    def _may_accept(self, request: HttpRequest, page: PageFix) -> bool:
        reviewable = reviewable_results(request.user).filter(pk=page.result_id)
        return self.has_manage_permission(request) and reviewable.exists()


def _reading_name(job: OcrJob) -> str:
    moment = f"{timezone.localtime(job.created_at):%Y-%m-%d %H:%M}"
    return f"{job.document} · {job.engine} · {moment}"


def _row(job: TextFix, page: PageFix) -> dict[str, Any]:
    return {
        "page": page,
        "number": page.result.page.number,
        "url": _page_url(job, page.result.page.number),
        "cer": _cer(page),
    }


def _cer(page: PageFix) -> str:
    if not page.characters:
        return ""
    before, after = page.errors_before / page.characters, page.errors_after / page.characters
    return f"{display.percent(before)} → {display.percent(after)}"


def _facts(page: PageFix) -> list[tuple[str, str]]:
    facts = [
        ("Model", page.fix.asked_model),
        ("Lines changed", str(page.changed)),
        ("Lines refused", str(page.refused)),
        ("CER to the accepted text", _cer(page)),
    ]
    return [(name, value) for name, value in facts if value]


def _rows(page: PageFix) -> list[dict[str, Any]]:
    """Every line of the page, with what the model would have in its place."""
    changes = {line["line"]: line for line in page.lines}
    rows = []
    for number, line in enumerate(page.result.lines):
        change = changes.get(number)
        rows.append(
            {
                "line": number,
                "number": number + 1,
                "text": line["text"],
                "change": change,
                "pieces": differences(change["before"], change["after"]) if change else [],
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in line["polygon"]),
            }
        )
    return rows


def _page_url(job: TextFix, number: int | None) -> str | None:
    return number and reverse("admin:llm_text_fix_page", args=[job.pk, number])
