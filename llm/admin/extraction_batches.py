"""Batches of extractions in the console: one bar for many documents, and their values as files."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from llm.models import ExtractionBatch, ExtractionJob
from llm.services import extractions as services
from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.models import Job

# As many jobs as a batch's page shows; the export has them all.
SHOWN = 200


@admin.register(ExtractionBatch)
class ExtractionBatchAdmin(JobAdminBase):
    list_display = (
        *("title", "status_label", "progress", "refused"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "template", "engine", "created_at", "owner")
    search_fields = ("name", "id", "error", "owner__username")
    list_select_related = ("owner", "template")
    live_cells = (*JobAdminBase.live_cells, "refused")
    change_form_template = "llm/extraction_batch.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def retry(self, job: Job) -> None:
        services.extraction_batch_retry(job=job)

    @column(description="Batch", ordering="name")
    def title(self, batch: ExtractionBatch) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}, {2}</span>',
            batch.name,
            batch.template or "own schema",
            batch.engine_name,
        )

    @column(description="Not taken up")
    def refused(self, batch: ExtractionBatch) -> SafeString:
        count = len(batch.failures)
        shown = display.label(f"{count:,}", "danger") if count else "0"
        return self.live(batch, "refused", shown)

    def get_fieldsets(self, request: HttpRequest, obj: ExtractionBatch | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("title", "status_label"),
                        ("progress", "refused"),
                        ("duration", "created"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {"classes": ("collapse",), "fields": (("owner", "worker"), ("started", "ended"))},
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
            jobs = ExtractionJob.objects.filter(parent=batch).select_related("document")
            extra["jobs"] = [_job_row(job) for job in jobs.order_by("created_at")[:SHOWN]]
            extra["job_count"] = jobs.count()
            extra["export_url"] = f"{reverse('extraction-export')}?batch={batch.pk}"
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))


def _job_row(job: ExtractionJob) -> dict[str, Any]:
    source = reverse("admin:llm_extractionjob_progress")
    return {
        "job": job,
        "url": reverse("admin:llm_extraction", args=[job.pk]),
        "status": display.live(job, "status_label", display.status_label(job), source),
        "created": display.moment(job.created_at),
    }
