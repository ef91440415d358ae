"""Evaluations: models side by side on the same frozen rows."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from finetune.models.datasets import DatasetVersion
from finetune.models.training import TrainingJobQuerySet
from finetune.models.versions import ModelVersion
from finetune.run_records import evaluation_record
from llm.models import LanguageModel
from mlops.models import Job
from mlops.tracking import RunRecord


class Evaluation(Job):
    """Scores one or more models on a split of a dataset. Transitions are Job's.

    Work is resumed by side and row: what a side has answered lies in `EvaluationRow`s. `result` is
    `finetune.evaluation.results`', with confidence intervals and the differences between sides.
    """

    KIND = "finetune.evaluate"
    QUEUE = "train"

    name = models.CharField(max_length=200)
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, on_delete=models.SET_NULL, related_name="evaluations"
    )
    dataset_label = models.CharField(max_length=250, blank=True, help_text="name and number")
    split = models.CharField(max_length=10, default="test")
    metrics = models.JSONField(default=list, help_text="names, as of finetune.evaluation")
    options = models.JSONField(default=dict, help_text="rows, max_tokens, seed, samples")
    result = models.JSONField(default=dict)

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        verbose_name = "evaluation"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("evaluation-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        return evaluation_record(self)


class EvaluationSide(models.Model):
    """One of the models that are compared: a language model, a recogniser, or an OCR engine."""

    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="sides")
    position = models.PositiveSmallIntegerField()
    label = models.CharField(max_length=250)
    model = models.ForeignKey(
        LanguageModel, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    version = models.ForeignKey(
        ModelVersion, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    ocr_engine = models.CharField(max_length=50, blank=True)

    class Meta:
        ordering = ["evaluation", "position"]
        constraints = [models.UniqueConstraint(fields=["evaluation", "position"], name="side_once")]

    def __str__(self) -> str:
        return self.label


class EvaluationRow(models.Model):
    """What a side made of one row, and how well: {metric: number}; `counts` to sum over rows."""

    side = models.ForeignKey(EvaluationSide, on_delete=models.CASCADE, related_name="rows")
    number = models.PositiveIntegerField(help_text="of the row in its version")
    output = models.TextField(blank=True)
    scores = models.JSONField(default=dict)
    counts = models.JSONField(default=dict)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["side", "number"]
        constraints = [models.UniqueConstraint(fields=["side", "number"], name="row_once_a_side")]

    def __str__(self) -> str:
        return f"{self.side_id} row {self.number}"
