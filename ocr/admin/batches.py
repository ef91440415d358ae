"""Batches in the console: one bar for many documents, and what could not be read."""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.models import Job
from ocr import selectors, services
from ocr.admin.gallery import job_row
from ocr.models import OcrBatch, OcrJob

# As many failures and jobs as a page shows; the API and the list of jobs have them all.
SHOWN = 100


@admin.register(OcrBatch)
class OcrBatchAdmin(JobAdminBase):
    list_display = (
        *("title", "status_label", "progress", "documents", "trouble"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "engine", "language", "created_at", "owner")
    search_fields = ("name", "id", "error", "owner__username")
    live_cells = (*JobAdminBase.live_cells, "documents", "trouble")
    change_form_template = "ocr/batch_change_form.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def retry(self, job: Job) -> None:
        services.ocr_batch_retry(job=job)

    @column(description="Batch", ordering="name")
    def title(self, batch: OcrBatch) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">engine {1}, language {2}</span>',
            batch.name,
            batch.engine,
            batch.language,
        )

    @column(description="Documents")
    def documents(self, batch: OcrBatch) -> SafeString:
        count = selectors.batch_counts(batch)
        shown = f"{count['succeeded']:,} of {count['total']:,} read"
        return self.live(batch, "documents", shown)

    @column(description="Not read")
    def trouble(self, batch: OcrBatch) -> SafeString:
        count = selectors.batch_counts(batch)
        lost = count["failed"] + count["refused"] + count["cancelled"]
        shown = display.label(f"{lost:,}", "danger") if lost else "0"
        return self.live(batch, "trouble", shown)

    def get_fieldsets(self, request: HttpRequest, obj: OcrBatch | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("status_label", "progress"),
                        ("documents", "trouble"),
                        ("engine", "duration"),
                        ("language", "created"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (
                        ("owner", "prefix"),
                        ("worker", "started"),
                        ("attempts_of", "ended"),
                        ("mlflow", "priority"),
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
        batch = self.get_object(request, object_id) if object_id else None
        if batch:
            jobs = OcrJob.objects.filter(parent=batch).select_related("document")
            extra["failures"] = [
                failure | {"url": _job_page(failure["job"])}
                for failure in islice(selectors.batch_failures(batch), SHOWN)
            ]
            extra["jobs"] = [job_row(job) for job in jobs.order_by("created_at")[:SHOWN]]
            extra["job_count"] = jobs.count()
            extra["zip_url"] = reverse("ocrbatch-results-zip", args=[batch.pk])
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))


def _job_page(key: str | None) -> str:
    return reverse("admin:ocr_ocrjob_change", args=[key]) if key else ""
