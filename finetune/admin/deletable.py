"""Jobs that can be deleted in the console once they have ended."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from finetune.models import Checkpoint, TrainingJob
from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import ApplicationError
from mlops.models import Job


def training_counts(jobs: QuerySet[TrainingJob]) -> dict[str, int]:
    """Trainings, and what of them is deleted too."""
    held = Checkpoint.objects.filter(job__in=jobs, removed=False)
    return {"trainings": jobs.count(), "checkpoints": held.count()}


class DeletableJobs(JobAdminBase):
    """What stands in the way is said before anybody is asked whether they are sure.

    A kind says whether one may be deleted (`check_deletable`), how (`delete`), and what goes with
    it (`deletes`).
    """

    actions = (*JobAdminBase.actions, "delete_selected")

    def check_deletable(self, job: Job) -> None:
        """Raises NotAllowed. Called in a transaction."""
        raise NotImplementedError

    def delete(self, job: Job) -> None:
        raise NotImplementedError

    def deletes(self, jobs: QuerySet[Job] | list[Job]) -> dict[str, int]:
        """How many of what go, by their names."""
        return {str(self.opts.verbose_name_plural): len(jobs)}

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.finished)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Who may delete a job may delete what belongs to it."""
        jobs = list(objs)
        return [str(job) for job in jobs], self.deletes(jobs), set(), []

    @admin.action(description="Delete", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, jobs: QuerySet[Job]) -> HttpResponse | None:
        """All of the chosen ones or none."""
        refused = [said for job in jobs if (said := self._refusal(job))]
        for said in refused:
            self.message_user(request, said, messages.ERROR)
        return None if refused else delete_selected(self, request, jobs)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        said = self._refusal(job) if job is not None else ""
        if said:
            self.message_user(request, said, messages.ERROR)
            return redirect(f"admin:{self._url_name('change')}", object_id)
        return super().delete_view(request, object_id, extra_context)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """To the list, which Django shows only to who may change rows by hand."""
        super().response_delete(request, obj_display, obj_id)
        return redirect(f"admin:{self._url_name('changelist')}")

    def delete_model(self, request: HttpRequest, obj: Job) -> None:
        self.delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        for job in queryset:
            self.delete(job)

    def _refusal(self, job: Job) -> str:
        """Why it can't be deleted; "" if it can."""
        try:
            with transaction.atomic():
                self.check_deletable(job)
        except ApplicationError as error:
            return error.message
        return ""
