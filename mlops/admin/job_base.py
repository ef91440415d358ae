"""What every kind of job shares in the console: it is followed, cancelled and retried there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column

from mlops import display, services
from mlops.exceptions import ApplicationError
from mlops.models import Job

# As many rows as a page of the list shows.
MOST_FOLLOWED = 200


class JobAdminBase(ModelAdmin):
    """What every kind of job shares; a kind adds its own columns and says how it is retried."""

    change_form_template = "mlops/job_change_form.html"
    actions = ("cancel_selected", "retry_selected")
    live_cells: tuple[str, ...] = ("status_label", "progress", "duration")
    list_per_page = 50
    list_select_related: tuple[str, ...] = ("owner",)
    ordering = ("-created_at",)
    view_on_site = False

    def cancel(self, job: Job) -> None:
        services.job_cancel(job=job)

    def retry(self, job: Job) -> None:
        services.job_retry(job=job)

    # -- who may do what ----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return super().get_queryset(request).visible_to(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.view_{self.opts.model_name}")

    def has_manage_permission(self, request: HttpRequest) -> bool:
        """To cancel and retry: what Django calls the right to change the row."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def get_list_display(self, request: HttpRequest) -> list[str]:
        """Who sees only their own needs no column that says whose."""
        names = super().get_list_display(request)
        return [name for name in names if name != "owner" or request.user.sees_all]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        names = super().get_list_filter(request)
        return [name for name in names if name != "owner" or request.user.sees_all]

    # -- columns ------------------------------------------------------------------------------

    @column(description="Status", ordering="status")
    def status_label(self, job: Job) -> SafeString:
        return self.live(job, "status_label", display.status_label(job))

    @column(description="Progress")
    def progress(self, job: Job) -> SafeString:
        return self.live(job, "progress", display.progress_bar(job))

    @column(description="Time")
    def duration(self, job: Job) -> SafeString:
        return self.live(job, "duration", display.job_duration(job))

    @column(description="MLflow")
    def mlflow(self, job: Job) -> str:
        return display.mlflow_link(job) or display.NOTHING

    @column(description="Created", ordering="created_at")
    def created(self, job: Job) -> str:
        return display.moment(job.created_at)

    @column(description="Started")
    def started(self, job: Job) -> str:
        return display.moment(job.started_at)

    @column(description="Ended")
    def ended(self, job: Job) -> str:
        return display.moment(job.finished_at)

    @column(description="Attempts")
    def attempts_of(self, job: Job) -> str:
        return f"{job.attempts} of {job.max_attempts}"

    @column(description="Message")
    def error_text(self, job: Job) -> SafeString:
        return format_html('<div class="job-error">{}</div>', job.error)

    @column(description="Traceback")
    def traceback_text(self, job: Job) -> SafeString:
        return format_html('<pre class="job-traceback">{}</pre>', job.traceback)

    def live(self, job: Job, cell: str, html: str) -> SafeString:
        return display.live(job, cell, html, reverse(f"admin:{self._url_name('progress')}"))

    def error_fieldsets(self, job: Job | None) -> list[tuple[str, dict[str, Any]]]:
        """Only what there is: a traceback stands only where something crashed."""
        found: list[tuple[str, dict[str, Any]]] = []
        if job and job.error:
            found.append(("Error", {"fields": ("error_code", "error_text")}))
        if job and job.traceback:
            found.append(("Traceback", {"fields": ("traceback_text",), "classes": ("collapse",)}))
        return found

    # -- cancel, retry, follow ----------------------------------------------------------------

    @admin.action(description="Cancel", permissions=["manage"])
    def cancel_selected(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, self.cancel, "asked to stop")

    @admin.action(description="Retry", permissions=["manage"])
    def retry_selected(self, request: HttpRequest, jobs: QuerySet[Job]) -> None:
        self._each(request, jobs, self.retry, "queued again")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("progress/", view(self.progress_view), name=self._url_name("progress")),
            path(
                "<uuid:object_id>/<str:act>-job/",
                view(self.act_view),
                name=self._url_name("act"),
            ),
            *super().get_urls(),
        ]

    def act_view(self, request: HttpRequest, object_id: uuid.UUID, act: str) -> HttpResponse:
        """The buttons of the job's page."""
        acts = {"cancel": (self.cancel, "asked to stop"), "retry": (self.retry, "queued again")}
        if request.method != "POST" or act not in acts:
            return HttpResponseNotAllowed(["POST"])
        if not self.has_manage_permission(request):
            raise PermissionDenied
        job = get_object_or_404(self.get_queryset(request), pk=object_id)
        self._each(request, [job], *acts[act])
        return redirect(f"admin:{self._url_name('change')}", job.pk)

    def progress_view(self, request: HttpRequest) -> JsonResponse:
        """`?ids=a,b`: the live cells of these jobs anew."""
        ids = []
        for text in request.GET.get("ids", "").split(",")[:MOST_FOLLOWED]:
            try:
                ids.append(uuid.UUID(text))
            except ValueError:
                continue
        jobs = self.get_queryset(request).filter(pk__in=ids)
        cells = {
            str(job.pk): {name: getattr(self, name)(job) for name in self.live_cells}
            for job in jobs
        }
        response = JsonResponse({"cells": cells})
        response["Cache-Control"] = "no-store"
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        job = self.get_object(request, object_id) if object_id else None
        extra = {"has_manage_permission": self.has_manage_permission(request)}
        if job:
            extra["act_urls"] = {
                act: reverse(f"admin:{self._url_name('act')}", args=[job.pk, act])
                for act in ("cancel", "retry")
            }
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    def _each(
        self, request: HttpRequest, jobs: Iterable[Job], act: Callable[[Job], None], done: str
    ) -> None:
        count = 0
        for job in jobs:
            try:
                act(job)
            except ApplicationError as error:
                self.message_user(request, f"{job}: {error.message}", messages.ERROR)
            else:
                count += 1
        if count:
            noun = self.opts.verbose_name if count == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"{count} {noun} {done}.", messages.SUCCESS)

    def _url_name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"
