"""OCR jobs in the console: how far they are, what they read, and the way to each page."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.models import Job
from ocr import exports, services, viewer
from ocr.admin.compare import compare_view
from ocr.admin.gallery import gallery
from ocr.models import OcrJob


@admin.register(OcrJob)
class OcrJobAdmin(JobAdminBase):
    list_display = (
        *("document_name", "status_label", "progress", "mean", "failed"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "engine", "language", "created_at", "owner")
    search_fields = ("document__name", "id", "error", "owner__username")
    list_select_related = ("owner", "document")
    live_cells = (*JobAdminBase.live_cells, "mean", "failed")
    change_form_template = "ocr/job_change_form.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def retry(self, job: Job) -> None:
        services.ocr_job_retry(job=job)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OcrJob]:
        return super().get_queryset(request).select_related("document")

    @column(description="Document", ordering="document__name")
    def document_name(self, job: OcrJob) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">engine {1}, language {2}</span>',
            job.document.name,
            job.engine,
            job.language,
        )

    @column(description="Document")
    def document_link(self, job: OcrJob) -> SafeString:
        url = reverse("admin:ocr_document_change", args=[job.document_id])
        return display.link(url, job.document.name)

    @column(description="Confidence", ordering="mean_confidence")
    def mean(self, job: OcrJob) -> SafeString:
        shown = display.confidence(job.mean_confidence, job.min_confidence)
        return self.live(job, "mean", shown)

    @column(description="Failed", ordering="pages_failed")
    def failed(self, job: OcrJob) -> SafeString:
        shown = display.label(str(job.pages_failed), "danger") if job.pages_failed else "0"
        return self.live(job, "failed", shown)

    @column(description="In engines")
    def engine_time(self, job: OcrJob) -> str:
        return display.duration(job.engine_seconds)

    @column(description="Resolution")
    def resolution(self, job: OcrJob) -> str:
        return f"{job.dpi} dpi, where a page is drawn from a PDF"

    @column(description="Threshold")
    def threshold(self, job: OcrJob) -> str:
        return f"{display.percent(job.min_confidence)}: lines below it are flagged"

    def get_fieldsets(self, request: HttpRequest, obj: OcrJob | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("document_link", "status_label"),
                        ("engine", "progress"),
                        ("language", "mean"),
                        ("duration", "failed"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (
                        ("owner", "created"),
                        ("worker", "started"),
                        ("attempts_of", "ended"),
                        ("mlflow", "engine_time"),
                        ("resolution", "priority"),
                        "threshold",
                    ),
                },
            ),
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        extra: dict[str, Any] = {}
        job = self.get_object(request, object_id) if object_id else None
        if job:
            extra["gallery"] = gallery(request, job.document, job)
            extra["result_url"] = reverse("ocrjob-result", args=[job.pk])
            extra["formats"] = exports.FORMATS
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("compare/", view(compare_view), name="ocr_compare"),
            path("<uuid:job_id>/pages/<int:number>/", view(viewer.viewer), name="ocr_viewer"),
            path(
                "<uuid:job_id>/pages/<int:number>/image",
                view(viewer.job_page_image),
                name="ocr_page_image",
            ),
            *super().get_urls(),
        ]
