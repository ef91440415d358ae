"""Training jobs, the points of their curves, what they told on the way, and their checkpoints."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.urls import reverse
from django.utils import timezone

from finetune.models.datasets import DatasetVersion
from finetune.models.imports import DatasetImport
from finetune.run_records import training_record
from llm.models import LanguageModel, OrderedJSONField
from mlops.models import Job, JobQuerySet, User
from mlops.tracking import RunRecord


class TrainingJobQuerySet(JobQuerySet):
    def visible_to(self, user: User) -> Self:
        """All of them to people who may see everybody's training, else one's own."""
        if user.sees_all or user.has_perm("finetune.view_trainingjob"):
            return self
        return self.filter(owner=user)


class TrainingJob(Job):
    """One model trained on one version of a dataset. Transitions are Job's.

    `phase` says where within a status it is. What it needs to go on after a lost worker is its
    newest whole checkpoint: in `checkpoints`, its files in the storage below `folder`. Progress is
    in steps.
    """

    KIND = "finetune.train"
    QUEUE = "train"
    PAUSABLE = True

    class Method(models.TextChoices):
        SFT = "sft", "supervised (SFT)"
        DPO = "dpo", "preferences (DPO)"
        CPT = "cpt", "continued pre-training"
        OCR = "ocr-recognition", "OCR recogniser"

    class Phase(models.TextChoices):
        NEW = "", "waiting"
        VALIDATING = "validating", "validating files"
        DEVICE = "device", "waiting for a device"
        MACHINES = "machines", "waiting for other machines"
        LOADING = "loading"
        PREPARING = "preparing", "preparing rows"
        MEASURING = "measuring", "measuring steps"
        TRAINING = "training"
        SAVING = "saving"
        CHECKING = "checking", "checking the result"
        ENDED = "ended"

    name = models.CharField(max_length=200, help_text="of what comes of it")
    method = models.CharField(max_length=20, choices=Method)
    base = models.ForeignKey(
        LanguageModel,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="training_jobs",
        help_text="the model to begin with; none for a recogniser",
    )
    base_name = models.CharField(max_length=200, blank=True, help_text="kept when it is deleted")
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, on_delete=models.SET_NULL, related_name="training_jobs"
    )
    dataset_label = models.CharField(max_length=250, blank=True, help_text="name and number")
    # Another version whose rows to validate by, whole; else this version's own validation split.
    validation_version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    options = models.JSONField(default=dict, help_text="as of finetune.engines.configs")
    dry_run = models.BooleanField(default=False, help_text="look at everything, train nothing")
    dry_report = models.JSONField(default=dict, blank=True)
    serve = models.BooleanField(default=True, help_text="make what comes of it callable")

    phase = models.CharField(
        max_length=12, choices=Phase, default=Phase.NEW, blank=True, db_default=""
    )
    device = models.CharField(max_length=100, blank=True)
    settings_found = models.JSONField(default=dict, help_text="what 'auto' became")
    epoch = models.FloatField(default=0)
    trained_tokens = models.PositiveBigIntegerField(default=0)
    tokens_per_second = models.FloatField(default=0)
    loss = models.FloatField(null=True, blank=True)
    eval_loss = models.FloatField(null=True, blank=True)
    memory_bytes = models.BigIntegerField(default=0)
    # Of the attempt under way: what the estimate of the end is made from.
    steps_from = models.PositiveIntegerField(default=0)
    steps_since = models.DateTimeField(null=True, blank=True)
    # The last point of the curves that MLflow has.
    metrics_logged = models.PositiveBigIntegerField(default=0)
    # Of sweeps: what this one tries.
    trial = models.PositiveIntegerField(null=True, blank=True)
    trial_values = models.JSONField(default=dict, blank=True)
    # Of the OpenAI API: what the client gave, to be given back as it was.
    training_file = models.CharField(max_length=40, blank=True, db_index=True)
    validation_file = models.CharField(max_length=40, blank=True)
    suffix = models.CharField(max_length=64, blank=True)
    results_file = models.CharField(max_length=40, blank=True, help_text="the curves, as CSV")
    request = OrderedJSONField(default=dict, blank=True)
    # Of the files: the versions that come of them are the job's once they have ended.
    dataset_import = models.ForeignKey(
        DatasetImport,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="training_jobs",
        editable=False,
    )
    validation_import = models.ForeignKey(
        DatasetImport,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        editable=False,
    )

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        verbose_name = "training job"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("trainingjob-detail", args=[self.pk])

    @property
    def openai_id(self) -> str:
        return f"ftjob-{self.pk.hex}"

    @property
    def folder(self) -> str:
        """Where its checkpoints lie in the storage."""
        return f"training/{self.pk.hex[:2]}/{self.pk}"

    @property
    def model_name(self) -> str:
        """What requests call the result by, once there is one that may be called."""
        version = self.versions.exclude(language_model=None).order_by("-step").first()
        return version.language_model.name if version else ""

    @property
    def rows_seen(self) -> int:
        """Training rows that have been learned from, each as often as it was."""
        return round(self.epoch * int(self.settings_found.get("train_rows", 0)))

    @property
    def paused(self) -> bool:
        return self.held and self.status == self.Status.QUEUED

    @property
    def estimated_finish(self) -> datetime | None:
        """By the mean time of a step of this attempt; None before there are steps to go by."""
        steps = self.progress_done - self.steps_from
        if self.status != self.Status.RUNNING or self.steps_since is None or steps < 1:
            return None
        passed = (timezone.now() - self.steps_since).total_seconds()
        left = (self.progress_total - self.progress_done) * passed / steps
        return timezone.now() + timedelta(seconds=left)

    def run_record(self) -> RunRecord:
        return training_record(self)


class TrainingMetric(models.Model):
    """A point of the curves: all that was measured at one step. Names as in engines.base.METRICS.

    A job that goes on from a checkpoint replaces the points after it.
    """

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metrics")
    step = models.PositiveIntegerField()
    epoch = models.FloatField()
    values = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["job", "step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="metric_once_a_step")]

    def __str__(self) -> str:
        return f"{self.job_id} step {self.step}"


class TrainingEvent(models.Model):
    """Something that happened, for people and for OpenAI's list of events."""

    class Level(models.TextChoices):
        INFO = "info"
        WARN = "warn"
        ERROR = "error"

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="events")
    level = models.CharField(max_length=5, choices=Level, default=Level.INFO)
    message = models.TextField()
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["job", "-pk"]

    def __str__(self) -> str:
        return self.message

    @property
    def openai_id(self) -> str:
        return f"ftevent-{self.pk}"


def checkpoint_id() -> str:
    return f"ftckpt-{uuid.uuid4().hex}"


class Checkpoint(models.Model):
    """What training can go on from. Its files lie in the storage below the job's folder.

    `files` (name: [bytes, sha256]) is written once all of them are there, so a row says that the
    checkpoint is whole.
    """

    id = models.CharField(primary_key=True, max_length=40, default=checkpoint_id, editable=False)
    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="checkpoints")
    step = models.PositiveIntegerField()
    best = models.BooleanField(default=False)
    metrics = models.JSONField(default=dict)
    files = models.JSONField(default=dict)
    bytes = models.PositiveBigIntegerField(default=0)
    # Its files made room for newer ones; the figures stay.
    removed = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["job", "-step"]
        constraints = [
            models.UniqueConstraint(fields=["job", "step"], name="checkpoint_once_a_step")
        ]

    def __str__(self) -> str:
        return f"{self.job} step {self.step}"

    @property
    def name(self) -> str:
        return f"checkpoint-{self.step}"

    @property
    def model_name(self) -> str:
        """What requests call it by, once its job has succeeded and its files are still there."""
        return f"{self.job.name}:ckpt-step-{self.step}"

    @property
    def source(self) -> str:
        """As a LanguageModel's source."""
        return f"stored:{self.folder}"

    @property
    def folder(self) -> str:
        return f"{self.job.folder}/{self.name}"
