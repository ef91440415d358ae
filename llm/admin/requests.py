"""Requests to models in the console: how long they took, what they used, and what was said."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from llm.models import GenerationJob
from llm.services.generations import generation_cancel
from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import NotAllowed
from mlops.models import Job


@admin.register(GenerationJob)
class GenerationJobAdmin(JobAdminBase):
    list_display = (
        *("asked", "status_label", "tokens", "first_token", "duration"),
        *("key", "owner", "created"),
    )
    list_filter = ("status", "endpoint", "model", "streamed", "created_at", "owner")
    search_fields = ("id", "asked_model", "error", "owner__username", "request_id")
    list_select_related = ("owner", "model", "api_key")
    actions = ("cancel_selected",)
    live_cells = ("status_label", "duration", "tokens", "first_token")

    class Media:
        css: ClassVar = {"all": ["llm/console.css"]}

    def cancel(self, job: Job) -> None:
        generation_cancel(pk=job.pk)

    def retry(self, job: Job) -> None:
        raise NotAllowed("Nobody waits for its answer any more. Send the request again.")

    @column(description="Request", ordering="asked_model")
    def asked(self, job: GenerationJob) -> SafeString:
        kind = f"{job.get_endpoint_display()}, streamed" if job.streamed else job.endpoint
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}</span>',
            job.asked_model,
            kind,
        )

    @column(description="Model")
    def model_link(self, job: GenerationJob) -> SafeString | str:
        return str(job.model) if job.model else display.NOTHING

    @column(description="Tokens in, out", ordering="completion_tokens")
    def tokens(self, job: GenerationJob) -> SafeString:
        shown = f"{job.prompt_tokens:,} → {job.completion_tokens:,}"
        return self.live(job, "tokens", shown)

    @column(description="From a shared prefix")
    def cached(self, job: GenerationJob) -> str:
        return f"{job.cached_tokens:,} tokens"

    @column(description="First token", ordering="first_token_ms")
    def first_token(self, job: GenerationJob) -> SafeString:
        ms = job.first_token_ms
        return self.live(job, "first_token", display.NOTHING if ms is None else f"{ms:,.0f} ms")

    @column(description="Tokens a second")
    def rate(self, job: GenerationJob) -> str:
        seconds = (job.seconds or 0) - (job.first_token_ms or 0) / 1000
        if seconds <= 0 or job.completion_tokens < 2:
            return display.NOTHING
        return f"{job.completion_tokens / seconds:,.1f}"

    @column(description="Key")
    def key(self, job: GenerationJob) -> SafeString | str:
        if job.api_key is None:
            return display.NOTHING
        shown = job.api_key.name or f"{job.api_key.token_key}…"
        return format_html('<span class="nowrap">{}</span>', shown)

    @column(description="Request")
    def body_text(self, job: GenerationJob) -> SafeString | str:
        return texts(job.body)

    @column(description="Answer")
    def answer_text(self, job: GenerationJob) -> SafeString | str:
        return texts(job.answer)

    def get_fieldsets(self, request: HttpRequest, obj: GenerationJob | None = None) -> list[Any]:
        kept = ("body_text", "answer_text") if obj and (obj.body or obj.answer) else ()
        return [
            (
                None,
                {
                    "fields": (
                        ("asked_model", "status_label"),
                        ("endpoint", "tokens"),
                        ("model_link", "cached"),
                        ("first_token", "duration"),
                        ("finish_reason", "rate"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            *([("Texts", {"fields": kept})] if kept else []),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (
                        ("owner", "key"),
                        ("created", "started"),
                        ("ended", "attempts_of"),
                        ("worker", "streamed"),
                        ("request_id", "mlflow"),
                    ),
                },
            ),
        ]


def texts(value: Any) -> SafeString:
    """Kept texts as they were, for reading."""
    shown = json.dumps(value, ensure_ascii=False, indent=2).replace("\\n", "\n")
    return format_html('<pre class="job-traceback llm-texts" dir="auto">{}</pre>', shown)
