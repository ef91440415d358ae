"""What workers leave behind: signs of life of the queues, and Celery's results. Only read."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django_celery_results.models import GroupResult, TaskResult
from unfold.admin import ModelAdmin
from unfold.decorators import display as column

from mlops import display
from mlops.models import QueuePulse

# Celery's own pages are registered in Django's plain look, and groups of tasks aren't used.
admin.site.unregister([TaskResult, GroupResult])

VARIANTS = {"SUCCESS": "success", "FAILURE": "danger", "STARTED": "info", "REVOKED": "warning"}


class ReadOnlyAdmin(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(QueuePulse)
class QueuePulseAdmin(ReadOnlyAdmin):
    list_display = ("queue", "state", "seen", "worker")
    fields = ("queue", "state", "seen", "worker")
    readonly_fields = ("state", "seen")

    @column(description="State")
    def state(self, pulse: QueuePulse) -> SafeString:
        since = timezone.now() - timedelta(seconds=settings.QUEUE_SEEN_SECONDS)
        if pulse.seen_at >= since:
            return display.label("consumed", "success")
        return display.label("silent", "warning")

    @column(description="Last consumed", ordering="seen_at")
    def seen(self, pulse: QueuePulse) -> str:
        return display.moment(pulse.seen_at)


@admin.register(TaskResult)
class TaskResultAdmin(ReadOnlyAdmin):
    list_display = ("task_name", "state", "done", "worker", "task_id")
    list_filter = ("status", "task_name", "date_done")
    search_fields = ("task_id", "task_name", "worker")
    fieldsets = (
        (None, {"fields": ("task_id", "task_name", "state", "worker")}),
        ("Call", {"fields": ("task_args", "task_kwargs", "date_created", "date_started", "done")}),
        ("Result", {"fields": ("result",)}),
        ("Traceback", {"fields": ("traceback",), "classes": ("collapse",)}),
    )
    readonly_fields = ("state", "done")

    @column(description="Status", ordering="status")
    def state(self, task: TaskResult) -> SafeString:
        return display.label(task.status.lower(), VARIANTS.get(task.status, ""))

    @column(description="Done", ordering="date_done")
    def done(self, task: TaskResult) -> str:
        return display.moment(task.date_done)
