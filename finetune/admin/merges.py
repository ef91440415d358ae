"""Merges in the console: begun on a version's page, followed like any job."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from finetune.admin.deletable import DeletableJobs
from finetune.models import VersionMerge
from finetune.services.deletion import ended_check, merge_delete
from finetune.training_view import fitness_label
from mlops import display
from mlops.models import Job


@admin.register(VersionMerge)
class VersionMergeAdmin(DeletableJobs):
    list_display = (
        *("title", "status_label", "doing", "progress", "came"),
        *("duration", "owner", "created"),
    )
    list_filter = ("status", "created_at", "owner")
    list_select_related = ("owner", "version", "result")
    search_fields = ("version_label", "name", "id", "error", "owner__username")
    live_cells = (*DeletableJobs.live_cells, "doing", "came")

    @column(description="Adapter", ordering="version_label")
    def title(self, job: VersionMerge) -> SafeString:
        if job.version is None:
            return format_html("{}", job.version_label)
        url = reverse("admin:finetune_modelversion_change", args=[job.version_id])
        return display.link(url, job.version_label)

    @column(description="Phase")
    def doing(self, job: VersionMerge) -> SafeString:
        words = job.get_phase_display() if job.status == job.Status.RUNNING else display.NOTHING
        return self.live(job, "doing", words)

    @column(description="Merged")
    def came(self, job: VersionMerge) -> SafeString:
        shown: str = display.NOTHING
        if job.result is not None:
            url = reverse("admin:finetune_modelversion_change", args=[job.result_id])
            shown = format_html(
                "{} {}", display.link(url, str(job.result)), fitness_label(job.result)
            )
        return self.live(job, "came", shown)

    def get_fieldsets(self, request: HttpRequest, obj: VersionMerge | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("title", "status_label"),
                        ("doing", "progress"),
                        ("came", "duration"),
                        ("name", "created"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (("owner", "worker"), ("started", "ended"), ("attempts_of",)),
                },
            ),
        ]

    def check_deletable(self, job: Job) -> None:
        ended_check(job)

    def delete(self, job: Job) -> None:
        merge_delete(merge=job)
