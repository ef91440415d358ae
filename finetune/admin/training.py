"""Training jobs in the console: a list, and a page each whose curves grow while it runs."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from finetune import training_view as view
from finetune.admin.deletable import DeletableJobs, training_counts
from finetune.admin.training_form import dry_run_view, new_training_view
from finetune.curves import curve_points
from finetune.dry_report import report_view
from finetune.models import TrainingJob
from finetune.services import training as services
from finetune.services.deletion import training_job_deletable, training_job_delete
from mlops import display
from mlops.models import Job

EVENTS = 200
# Parts of the page that are replaced as they change.
PARTS = ("head", "acts", "result", "checkpoints", "events", "found")


@admin.register(TrainingJob)
class TrainingJobAdmin(DeletableJobs):
    list_display = (
        *("title", "status_label", "progress", "losses", "data"),
        *("duration", "owner", "created"),
    )
    list_filter = ("status", "method", "dry_run", "created_at", "owner")
    list_select_related = ("owner", "dataset_version__dataset")
    search_fields = ("name", "base_name", "dataset_label", "id", "error", "owner__username")
    live_cells = (*DeletableJobs.live_cells, "losses")
    change_list_template = "finetune/training_change_list.html"

    class Media:
        css: ClassVar = {
            "all": ["ocr/console.css", "finetune/dataset.css", "finetune/training.css"]
        }

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("finetune.add_trainingjob")

    def cancel(self, job: Job) -> None:
        services.training_job_cancel(job=job)

    def retry(self, job: Job) -> None:
        services.training_job_retry(job=TrainingJob.objects.get(pk=job.pk))

    # -- delete -------------------------------------------------------------------------------

    def check_deletable(self, job: Job) -> None:
        training_job_deletable(job)

    def delete(self, job: Job) -> None:
        training_job_delete(job=job)

    def deletes(self, jobs: list[Job]) -> dict[str, int]:
        return training_counts(TrainingJob.objects.filter(pk__in=[job.pk for job in jobs]))

    # -- columns ------------------------------------------------------------------------------

    @column(description="Training", ordering="name")
    def title(self, job: TrainingJob) -> SafeString:
        about = job.get_method_display() + (f" on {job.base_name}" if job.base_name else "")
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle console-ellipsis" title="{1}">{1}{2}</span>',
            job.name,
            about,
            ", dry run" if job.dry_run else "",
        )

    @column(description="Progress")
    def progress(self, job: TrainingJob) -> SafeString:
        """A dry run takes no steps."""
        return super().progress(job) if not job.dry_run else SafeString(display.NOTHING)

    @column(description="Data")
    def data(self, job: TrainingJob) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>', job.dataset_label
        )

    @column(description="Loss, validation")
    def losses(self, job: TrainingJob) -> SafeString:
        shown = f"{view.number(job.loss)}, {view.number(job.eval_loss)}"
        return self.live(job, "losses", display.NOTHING if job.loss is None else shown)

    # -- pages --------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("add/dry-run/", wrap(dry_run_view), name="finetune_trainingjob_dry_run"),
            path("<uuid:pk>/state/", wrap(self.state_view), name="finetune_trainingjob_state"),
            path("<uuid:pk>/report/", wrap(self.report_view), name="finetune_trainingjob_report"),
            *super().get_urls(),
        ]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return new_training_view(request, self)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_permission(request, job):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": job.name,
            "opts": self.opts,
            "media": self.media,
            **self._shown(request, job),
            "option_groups": view.option_rows(job),
            "curves": _curves(job, 0),
            "state_url": reverse("admin:finetune_trainingjob_state", args=[job.pk]),
            "dataset_url": job.dataset_version_id
            and reverse("admin:finetune_datasetversion_change", args=[job.dataset_version_id]),
            "report": report_view(job.dry_report) if job.dry_report else None,
        }
        return render(request, "finetune/training_job.html", context)

    def state_view(self, request: HttpRequest, pk: uuid.UUID) -> JsonResponse:
        """`?after=`: what has changed since: points of the curves, and the page's parts anew."""
        job = self._job(request, pk)
        text = request.GET.get("after", "")
        after = int(text) if text.isdecimal() and len(text) < 19 else 0
        shown = self._shown(request, job)
        response = JsonResponse(
            {
                "parts": {
                    name: render_to_string(f"finetune/training/{name}.html", shown)
                    for name in PARTS
                },
                "curves": _curves(job, after),
                "finished": job.finished,
                "dry_run": job.dry_run,
            }
        )
        response["Cache-Control"] = "no-store"
        return response

    def report_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """The report of a dry run that has ended, as a part of a page; 202 until then."""
        job = self._job(request, pk)
        if not job.finished:
            phase = view.phase_words(job)
            return JsonResponse({"phase": phase, "status": job.status}, status=202)
        report = report_view(job.dry_report) if job.dry_report else None
        return render(request, "finetune/training/dry_run.html", {"job": job, "report": report})

    def _job(self, request: HttpRequest, pk: uuid.UUID) -> TrainingJob:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)

    def _shown(self, request: HttpRequest, job: TrainingJob) -> dict[str, Any]:
        return {
            "job": job,
            "status": display.status_label(job),
            "phase": view.phase_words(job),
            "time_left": view.time_left(job),
            "duration": display.job_duration(job),
            "figures": view.figures(job),
            "events": [
                {"event": event, "at": display.moment(event.created_at)}
                for event in job.events.order_by("-pk")[:EVENTS]
            ],
            "checkpoints": view.checkpoint_rows(job),
            "found": view.found_rows(job),
            "versions": view.version_rows(job),
            "acts": self._acts(request, job),
            "delete_url": reverse("admin:finetune_trainingjob_delete", args=[job.pk])
            if self.has_delete_permission(request, job)
            else "",
            "mlflow": display.mlflow_link(job),
        }

    def _acts(self, request: HttpRequest, job: TrainingJob) -> list[dict[str, str]]:
        """What may be done to the job as it stands: (name, icon, address)."""
        if not self.has_manage_permission(request):
            return []
        if job.finished:
            names = [] if job.status == Job.Status.SUCCEEDED else ["retry"]
        elif job.cancel_requested:
            names = []
        else:
            names = ["resume" if job.held else "pause", "cancel"]
        return [
            {
                "name": name,
                "icon": ICONS[name],
                "url": reverse("admin:finetune_trainingjob_act", args=[job.pk, name]),
            }
            for name in names
        ]

    def act_view(self, request: HttpRequest, object_id: uuid.UUID, act: str) -> HttpResponse:
        """The buttons of the job's page."""
        acts = {
            "cancel": (self.cancel, "asked to stop"),
            "retry": (self.retry, "queued again"),
            "pause": (lambda job: services.training_job_pause(job=job), "asked to pause"),
            "resume": (lambda job: services.training_job_resume(job=job), "queued again"),
        }
        if request.method != "POST" or act not in acts:
            return HttpResponseNotAllowed(["POST"])
        if not self.has_manage_permission(request):
            raise PermissionDenied
        job = get_object_or_404(self.get_queryset(request), pk=object_id)
        self._each(request, [job], *acts[act])
        return redirect("admin:finetune_trainingjob_change", job.pk)


ICONS = {"pause": "pause", "resume": "play_arrow", "cancel": "cancel", "retry": "replay"}


def _curves(job: TrainingJob, after: int) -> dict[str, Any]:
    marks = job.checkpoints.order_by("step").values("step", "best", "removed")
    return {
        **curve_points(job, after=after),
        "checkpoints": list(marks),
        "total": job.progress_total,
    }
