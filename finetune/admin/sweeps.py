"""Sweeps in the console: trials with their values, the best marked, as lines and as a table."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from finetune.admin.deletable import DeletableJobs, training_counts
from finetune.admin.started import StartedByForm
from finetune.engines.base import METRICS
from finetune.models import DatasetVersion, Sweep, TrainingJob
from finetune.services.deletion import sweep_deletable, sweep_delete
from finetune.services.sweeps import sweep_submit
from finetune.sweeps.space import MOST_TRIALS
from finetune.sweeps.view import ShownTrial, parallel_axes, short, trials_shown
from llm.models import LanguageModel
from mlops import display
from mlops.models import Job


class SweepForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of the models that come of it.",
    )
    method = forms.ChoiceField(choices=TrainingJob.Method.choices, widget=UnfoldAdminSelectWidget)
    base = forms.ModelChoiceField(
        LanguageModel.objects.filter(base=None, task=LanguageModel.Task.GENERATE),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="The model to begin with; none for a recogniser.",
    )
    dataset_version = forms.ModelChoiceField(
        DatasetVersion.objects.none(), widget=UnfoldAdminSelectWidget, label="Dataset"
    )
    space = forms.JSONField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        initial={"learning_rate": [1e-4, 2e-4, 5e-4], "lora_r": [8, 16]},
        label="What to try",
        help_text="By option a list of values; for Optuna also "
        '{"low": 1e-5, "high": 1e-3, "log": true}.',
    )
    options = forms.JSONField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        initial=dict,
        help_text="What all trials have: epochs, batch_size …",
    )
    search = forms.ChoiceField(choices=Sweep.Search.choices, widget=UnfoldAdminSelectWidget)
    trials = forms.IntegerField(
        initial=10,
        min_value=1,
        max_value=MOST_TRIALS,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="At most, for Optuna. A grid tries every combination.",
    )
    parallel = forms.IntegerField(
        initial=1,
        min_value=1,
        max_value=32,
        widget=UnfoldAdminIntegerFieldWidget,
        label="At one time",
    )
    metric = forms.ChoiceField(
        choices=list(METRICS.items()), initial="eval_loss", widget=UnfoldAdminSelectWidget
    )
    prune = forms.BooleanField(
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        label="End the hopeless",
        help_text="Trials that are behind the median of the others at the same epoch.",
    )

    def __init__(self, *given: Any, request: HttpRequest, **options: Any) -> None:
        super().__init__(*given, **options)
        versions = DatasetVersion.objects.visible_to(request.user).trainable()
        self.fields["dataset_version"].queryset = (
            versions.select_related("dataset").defer("report", "pins").order_by("-created_at")
        )


@admin.register(Sweep)
class SweepAdmin(StartedByForm, DeletableJobs):
    start_form = SweepForm
    start_title = "Start a sweep"
    start_template = "finetune/sweep_new.html"
    list_display = (
        *("title", "status_label", "progress", "search_of", "best_of", "duration", "owner"),
        *("created", "mlflow"),
    )
    list_filter = ("status", "method", "search", "created_at", "owner")
    search_fields = ("name", "id", "error", "dataset_label", "owner__username")
    list_select_related = ("owner", "best")
    live_cells = (*DeletableJobs.live_cells, "best_of")
    change_form_template = "finetune/sweep.html"
    change_list_template = "finetune/sweep_change_list.html"

    class Media:
        css: ClassVar = {
            "all": ["ocr/console.css", "finetune/dataset.css", "finetune/evaluation.css"]
        }

    @column(description="Sweep", ordering="name")
    def title(self, sweep: Sweep) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}, {2}</span>',
            *(sweep.name, sweep.get_method_display(), sweep.dataset_label),
        )

    @column(description="Search")
    def search_of(self, sweep: Sweep) -> str:
        return f"{sweep.get_search_display()}, {sweep.trials} trials, {sweep.parallel} at a time"

    @column(description="Best")
    def best_of(self, sweep: Sweep) -> SafeString:
        shown = f"trial {sweep.best.trial}" if sweep.best else display.NOTHING
        return self.live(sweep, "best_of", shown)

    def get_fieldsets(self, request: HttpRequest, obj: Sweep | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("title", "status_label"),
                        ("progress", "duration"),
                        ("search_of", "best_of"),
                        ("created", "mlflow"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {"classes": ("collapse",), "fields": (("owner", "worker"), ("started", "ended"))},
            ),
        ]

    def start(self, request: HttpRequest, given: dict[str, Any]) -> Sweep:
        return sweep_submit(owner=request.user, **given)

    def check_deletable(self, job: Job) -> None:
        sweep_deletable(job)

    def delete(self, job: Job) -> None:
        sweep_delete(sweep=job)

    def deletes(self, jobs: list[Job]) -> dict[str, int]:
        trials = TrainingJob.objects.filter(parent__in=[job.pk for job in jobs])
        return super().deletes(jobs) | training_counts(trials)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        sweep = self.get_object(request, object_id) if object_id else None
        extra: dict[str, Any] = {}
        if sweep:
            trials = trials_shown(sweep)
            extra = {
                "picture": parallel_axes(sweep, trials),
                "names": list(sweep.space),
                "metric": METRICS.get(sweep.metric, sweep.metric),
                "trials": [self._trial(sweep, one) for one in trials],
            }
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    def _trial(self, sweep: Sweep, one: ShownTrial) -> dict[str, Any]:
        job = one.job
        waits = not job.trial_values and not job.finished
        status = display.label("waiting") if waits else display.status_label(job)
        return {
            "number": job.trial,
            "url": display.job_url(job),
            "status": display.label("ended early", "warning") if one.pruned else status,
            "progress": display.progress_bar(job) if job.progress_total else "",
            "values": [short(job.trial_values.get(name, "")) for name in sweep.space],
            "value": short(one.value) if one.value is not None else "",
            "best": one.best,
            "model": job.model_name,
            "error": job.error,
        }
