"""Imports in the console: jobs like any other, with what came of them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from finetune.models import DatasetImport
from mlops import display
from mlops.admin.job_base import JobAdminBase


@admin.register(DatasetImport)
class DatasetImportAdmin(JobAdminBase):
    list_display = (
        *("dataset", "source", "status_label", "progress", "result"),
        *("duration", "owner", "created"),
    )
    list_filter = ("status", "origin", "created_at", "owner")
    list_select_related = ("owner", "dataset", "version__dataset")
    search_fields = ("dataset__name", "source", "id", "error")
    live_cells = (*JobAdminBase.live_cells, "result")

    @column(description="Version")
    def result(self, job: DatasetImport) -> SafeString:
        shown: str = display.NOTHING
        if job.version is not None:
            url = reverse("admin:finetune_datasetversion_change", args=[job.version_id])
            shown = display.link(url, str(job.version))
        return self.live(job, "result", shown)

    def get_fieldsets(self, request: HttpRequest, obj: DatasetImport | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("status_label", "progress"),
                        ("result", "duration"),
                        ("source", "created"),
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
