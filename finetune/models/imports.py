"""The job that takes a dataset in."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from finetune.models.datasets import Dataset, DatasetVersion
from mlops.models import Job, JobQuerySet
from mlops.tracking import RunRecord


def import_path(job: DatasetImport, filename: str) -> str:
    """A place of the job's own; what the upload was called is never part of a path."""
    return f"datasets/imports/{job.id.hex[:2]}/{job.id}"


class DatasetImport(Job):
    """Reads, checks and stores one version. Transitions are Job's; progress is in percent.

    It is done from the start again where a worker is lost: a version is stored whole or not at all.
    `options` are `finetune.services.datasets.import_options`'.
    """

    KIND = "finetune.dataset_import"
    QUEUE = "default"
    TRACKED = False

    class Origin(models.TextChoices):
        UPLOAD = "upload"
        HUB = "hub"
        REVIEWS = "reviews", "reviewed pages"
        EXTRACTIONS = "extractions", "accepted extractions"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="imports")
    version = models.OneToOneField(
        DatasetVersion,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="imported_by",
        help_text="what came of it",
    )
    origin = models.CharField(max_length=20, choices=Origin)
    file = models.FileField(upload_to=import_path, max_length=200, blank=True)
    source = models.CharField(max_length=500, help_text="the file's name, or the hub's")
    options = models.JSONField(default=dict)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "dataset import"

    def __str__(self) -> str:
        return f"Import of {self.dataset}"

    def get_absolute_url(self) -> str:
        return reverse("datasetimport-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        return RunRecord(name=f"import {self.dataset}"[:200], experiment="datasets")
