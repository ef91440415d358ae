"""The job that merges an adapter into its base."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from finetune.models.training import TrainingJobQuerySet
from finetune.models.versions import ModelVersion
from mlops.models import Job


class VersionMerge(Job):
    """Makes a whole model of an adapter and its base. Transitions are Job's; progress is in phases.

    It is done from the start again where a worker is lost, with the same `result`: a version is
    stored whole or not at all.
    """

    KIND = "finetune.merge"
    QUEUE = "train"
    TRACKED = False

    class Phase(models.TextChoices):
        NEW = "", "waiting"
        DEVICE = "device", "waiting for a device"
        LOADING = "loading"
        SAVING = "saving", "merging and saving"
        CHECKING = "checking", "checking the result"
        STORING = "storing"

    version = models.ForeignKey(
        ModelVersion,
        null=True,
        on_delete=models.SET_NULL,
        related_name="merges",
        help_text="the adapter",
    )
    version_label = models.CharField(max_length=250, help_text="kept when it is deleted")
    name = models.CharField(max_length=200, help_text="of what comes of it")
    device = models.CharField(max_length=50, default="auto")
    phase = models.CharField(max_length=12, choices=Phase, default=Phase.NEW, blank=True)
    result = models.OneToOneField(
        ModelVersion,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="merged_by",
        help_text="what came of it",
    )

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        verbose_name = "merge"

    def __str__(self) -> str:
        return f"Merge of {self.version_label}"

    def get_absolute_url(self) -> str:
        return reverse("versionmerge-detail", args=[self.pk])
