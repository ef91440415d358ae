"""All jobs in the console, whatever their kind."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import ApplicationError
from mlops.models import Job


@admin.register(Job)
class JobAdmin(JobAdminBase):
    """Every job there is, whatever its kind."""

    list_display = (
        *("created", "kind", "status_label", "progress", "duration", "owner"),
        *("queue", "worker", "attempts_of", "mlflow"),
    )
    list_filter = ("status", "kind", "queue", "created_at", "owner")
    search_fields = ("id", "worker", "error", "owner__username")

    def cancel(self, job: Job) -> None:
        """As its own kind does it, which may have something to finish."""
        own = self._own(job)
        super().cancel(job) if own is None else own.cancel(job)

    def retry(self, job: Job) -> None:
        """As its own kind does it, which may have to clear up first."""
        own = self._own(job)
        super().retry(job) if own is None else own.retry(job)

    def delete_model(self, request: HttpRequest, obj: Job) -> None:
        """As its own kind does it, with what belongs to it."""
        own = self._own(obj)
        if own is None:
            super().delete_model(request, obj)
        else:
            own.delete_model(request, obj.specific())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect("admin:mlops_job_change", object_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, lambda job: self.delete_model(request, job), "deleted")

    def _own(self, job: Job) -> JobAdminBase | None:
        """The page of the job's kind, if it has one."""
        model = type(job.specific())
        if model is Job or not self.admin_site.is_registered(model):
            return None
        return self.admin_site.get_model_admin(model)

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("specific_link", "status_label"),
                        ("kind", "progress"),
                        ("owner", "duration"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {
                    "fields": (
                        ("queue", "created"),
                        ("worker", "started"),
                        ("attempts_of", "ended"),
                        ("priority", "heartbeat"),
                    )
                },
            ),
            ("Tracking", {"fields": (("mlflow", "tracking"), "tracking_note", "request_id")}),
        ]

    @column(description="Last heartbeat")
    def heartbeat(self, job: Job) -> str:
        return display.moment(job.heartbeat_at)

    @column(description="Job")
    def specific_link(self, job: Job) -> SafeString | str:
        own = job.specific()
        url = display.job_url(own)
        return display.link(url, str(own)) if url and type(own) is not Job else display.NOTHING
