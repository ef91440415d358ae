"""Sweeps: the same training with different options, the best of them marked."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from finetune.models.datasets import DatasetVersion
from finetune.models.training import TrainingJob, TrainingJobQuerySet
from finetune.models.versions import ModelVersion
from finetune.run_records import sweep_record
from llm.models import LanguageModel
from mlops.models import Job
from mlops.tracking import RunRecord


class Sweep(Job):
    """The parent of the training jobs that it tries. Transitions are Job's; progress is in steps.

    `space`: option -> list of choices, or {"low", "high", "log": bool} of a number. `search`
    "grid" tries each combination; "optuna" draws `trials` by TPE. All trials are there from the
    beginning, held back until it is their turn; it succeeds if any of them does.
    """

    KIND = "finetune.sweep"
    QUEUE = "train"

    class Search(models.TextChoices):
        GRID = "grid", "every combination"
        OPTUNA = "optuna", "drawn by Optuna (TPE)"

    name = models.CharField(max_length=200)
    method = models.CharField(max_length=20, choices=TrainingJob.Method)
    base = models.ForeignKey(
        LanguageModel, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, on_delete=models.SET_NULL, related_name="sweeps"
    )
    dataset_label = models.CharField(max_length=250, blank=True)
    options = models.JSONField(default=dict, help_text="what all trials have")
    space = models.JSONField(default=dict)
    search = models.CharField(max_length=10, choices=Search, default=Search.GRID)
    trials = models.PositiveIntegerField(default=10, help_text="at most")
    parallel = models.PositiveIntegerField(default=1, help_text="trials at one time")
    metric = models.CharField(max_length=50, default="eval_loss")
    minimize = models.BooleanField(default=True)
    prune = models.BooleanField(default=True, help_text="end trials that are behind the median")
    best = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Whether all is done that follows from its end: the best one can be called.
    settled = models.BooleanField(default=False, editable=False)

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        verbose_name = "sweep"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sweep-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        return sweep_record(self)

    def tried(self) -> models.QuerySet[TrainingJob]:
        """Its trials, in their order."""
        return TrainingJob.objects.filter(parent=self.pk).order_by("trial")

    def outcome_of_children(self, *, failed: int, cancelled: int) -> tuple[str, str, str]:
        """Trials that fail or are ended early are what sweeps are for. Marks the best one."""
        if self.cancel_requested:
            return self.Status.CANCELLED, "", ""
        best = next(iter(self.ranked()), None)
        if best is None:
            error = (
                f"None of the trials has succeeded: {failed} failed, {cancelled} were cancelled."
            )
            return self.Status.FAILED, "no_trial_succeeded", f"{error} Look at their messages."
        Sweep.objects.filter(pk=self.pk).update(best=best[0])
        return self.Status.SUCCEEDED, "", ""

    def ranked(self) -> list[tuple[TrainingJob, float]]:
        """Trials that have succeeded with their values, the best first, unfit ones last."""
        found = []
        for job in self.tried().filter(status=self.Status.SUCCEEDED):
            value = objective(job, self.metric, minimize=self.minimize)
            if value is not None:
                unfit = job.versions.filter(fitness=ModelVersion.Fitness.UNFIT).exists()
                found.append(
                    (unfit, value if self.minimize else -value, job.trial or 0, job, value)
                )
        return [(job, value) for _unfit, _order, _trial, job, value in sorted(found, key=_first)]


def _first(one: tuple[bool, float, int, TrainingJob, float]) -> tuple[bool, float, int]:
    return one[:3]


def curve(job: TrainingJob, metric: str) -> list[tuple[float, int, float]]:
    """(epoch, step, value) of each point that has the metric."""
    points = job.metrics.order_by("step").values_list("epoch", "step", "values")
    return [(epoch, step, values[metric]) for epoch, step, values in points if metric in values]


def objective(job: TrainingJob, metric: str, *, minimize: bool) -> float | None:
    """What a trial comes to: the last value, or the best where that is what the result is of."""
    values = [value for _epoch, _step, value in curve(job, metric)]
    if not values:
        return None
    if job.options.get("early_stopping"):
        return min(values) if minimize else max(values)
    return values[-1]
