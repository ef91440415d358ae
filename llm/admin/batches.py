"""Batches in the console: one bar for many requests, their files, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from llm.models import BatchLine, LlmBatch, StoredFile
from llm.services.batches import llm_batch_cancel, llm_batch_retry
from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.models import Job

# As many lines as a page shows; the error file has them all.
SHOWN = 50


@admin.register(LlmBatch)
class LlmBatchAdmin(JobAdminBase):
    list_display = (
        *("title", "status_label", "progress", "answered", "trouble", "tokens"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "endpoint", "asked_model", "created_at", "owner")
    search_fields = ("id", "asked_model", "input_file_id", "error", "owner__username")
    live_cells = (*JobAdminBase.live_cells, "answered", "trouble", "tokens", "state_text")
    change_form_template = "llm/batch_change_form.html"

    class Media:
        css: ClassVar = {"all": ["llm/console.css"]}

    def cancel(self, job: Job) -> None:
        llm_batch_cancel(batch=LlmBatch.objects.get(pk=job.pk))

    def retry(self, job: Job) -> None:
        llm_batch_retry(batch=LlmBatch.objects.get(pk=job.pk))

    @column(description="Batch", ordering="asked_model")
    def title(self, batch: LlmBatch) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}</span>',
            batch.asked_model or batch.public_id,
            batch.endpoint,
        )

    @column(description="State")
    def state_text(self, batch: LlmBatch) -> SafeString:
        return self.live(batch, "state_text", batch.state.replace("_", " "))

    @column(description="Id")
    def id_text(self, batch: LlmBatch) -> SafeString:
        return format_html("<code>{}</code>", batch.public_id)

    @column(description="Answered")
    def answered(self, batch: LlmBatch) -> SafeString:
        return self.live(batch, "answered", f"{batch.completed:,} of {batch.total:,}")

    @column(description="Failed", ordering="failed")
    def trouble(self, batch: LlmBatch) -> SafeString:
        wrong = batch.failed + len(batch.line_errors)
        return self.live(batch, "trouble", display.label(f"{wrong:,}", "danger") if wrong else "0")

    @column(description="Tokens in, out")
    def tokens(self, batch: LlmBatch) -> SafeString:
        shown = f"{batch.prompt_tokens:,} → {batch.completion_tokens:,}"
        return self.live(batch, "tokens", shown)

    @column(description="Tokens a second")
    def rate(self, batch: LlmBatch) -> str:
        if not batch.seconds or not batch.completion_tokens:
            return display.NOTHING
        return f"{batch.completion_tokens / batch.seconds:,.1f}"

    @column(description="Input")
    def input_link(self, batch: LlmBatch) -> SafeString | str:
        return file_link(batch.input_file_id)

    @column(description="Answers")
    def output_link(self, batch: LlmBatch) -> SafeString | str:
        return file_link(batch.output_file_id)

    @column(description="Without an answer")
    def error_link(self, batch: LlmBatch) -> SafeString | str:
        return file_link(batch.error_file_id)

    @column(description="Metadata")
    def metadata_text(self, batch: LlmBatch) -> str:
        return json.dumps(batch.metadata, ensure_ascii=False) if batch.metadata else display.NOTHING

    @column(description="Time is over")
    def expires(self, batch: LlmBatch) -> str:
        return display.moment(batch.expires_at)

    def get_fieldsets(self, request: HttpRequest, obj: LlmBatch | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("status_label", "progress"),
                        ("state_text", "answered"),
                        ("asked_model", "trouble"),
                        ("endpoint", "tokens"),
                        ("duration", "rate"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            ("Files", {"fields": (("input_link", "output_link"), ("error_link", "metadata_text"))}),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (
                        ("id_text", "owner"),
                        ("created", "expires"),
                        ("started", "ended"),
                        ("worker", "attempts_of"),
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
            extra["line_errors"] = batch.line_errors[:SHOWN]
            extra["line_error_count"] = len(batch.line_errors)
            lines = batch.lines.filter(state=BatchLine.State.FAILED)
            extra["failed_lines"] = list(lines.order_by("number")[:SHOWN])
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))


def file_link(pk: str | None) -> SafeString | str:
    """The file's page; a deleted one is named only."""
    if pk is None:
        return display.NOTHING
    file = StoredFile.objects.filter(pk=pk).first()
    if file is None:
        return f"{pk} (deleted)"
    place = reverse("admin:llm_storedfile_change", args=[pk])
    # Names made of ids have no place to break a line at.
    return format_html('<span class="long-name">{}</span>', display.link(place, file.filename))
