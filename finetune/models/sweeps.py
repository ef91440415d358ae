"""Sweeps: the same training with different options, the best of them marked."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from finetune.models.datasets import DatasetVersion
from finetune.models.training import TrainingJob, TrainingJobQuerySet
from finetune.run_records import sweep_record
from llm.models import LanguageModel
from mlops.models import Job
from mlops.tracking import RunRecord


class Sweep(Job):
    """The parent of the training jobs that it tries. Transitions are Job's; progress is in trials.

    `space`: option -> list of choices, or {"low", "high", "log": bool} of a number. `search`
    "grid" tries each combination; "optuna" draws `trials` by TPE and lets its median pruner end
    the hopeless.
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

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        verbose_name = "sweep"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sweep-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        return sweep_record(self)
