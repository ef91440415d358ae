"""What training leaves: versions of models, registered and served."""

from __future__ import annotations

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from finetune.models.datasets import DatasetVersion
from finetune.models.training import TrainingJob
from llm.models import LanguageModel
from mlops.models import User
from ocr.models import TrainedEngine
from ocr.trained import aliases as engine_names


class ModelVersionQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        if user.sees_all or user.has_perm("finetune.view_modelversion"):
            return self
        return self.filter(owner=user)

    def unregistered(self) -> Self:
        return self.filter(registered_at=None).exclude(files={})


class ModelVersion(models.Model):
    """Files of a trained model, with all that it came from. Nothing of the files ever changes.

    unchecked -> fit | unfit (what is served is not what was trained)

    The files lie in the storage below `folder` in MLflow's own form, and are registered with MLflow
    as `models:/<name>/<number>` when it can be reached: `registered_number` is its number there.
    """

    class Form(models.TextChoices):
        ADAPTER = "adapter", "LoRA adapter"
        MODEL = "model", "whole model"
        RECOGNISER = "recogniser", "OCR recogniser"

    class Fitness(models.TextChoices):
        UNCHECKED = "unchecked"
        FIT = "fit"
        UNFIT = "unfit"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="model_versions",
    )
    name = models.CharField(max_length=200, help_text="of the registered model")
    number = models.PositiveIntegerField(help_text="counted from 1")
    form = models.CharField(max_length=10, choices=Form)
    job = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="versions"
    )
    step = models.PositiveIntegerField(default=0, help_text="of the checkpoint; 0: the end")
    dataset_version = models.ForeignKey(
        DatasetVersion,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="model_versions",
    )
    base = models.ForeignKey(
        LanguageModel, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    merged_from = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="merged"
    )
    language_model = models.ForeignKey(
        LanguageModel,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="model_versions",
        help_text="what requests call it by",
    )
    fitness = models.CharField(max_length=10, choices=Fitness, default=Fitness.UNCHECKED)
    parity = models.JSONField(default=dict, help_text="as of finetune.engines.parity")
    files = models.JSONField(default=dict, help_text="{name: [bytes, sha256]}")
    bytes = models.PositiveBigIntegerField(default=0)
    # How it was made: options, metrics, libraries, code; what the model card says.
    facts = models.JSONField(default=dict)
    card = models.TextField(blank=True, help_text="Markdown")
    registered_number = models.CharField(max_length=20, blank=True)
    registered_at = models.DateTimeField(null=True, blank=True)
    # Until then another process is at it, or has been in vain.
    register_after = models.DateTimeField(null=True, blank=True, editable=False)
    register_note = models.TextField(blank=True, help_text="why it isn't yet")
    mlflow_run_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = "model version"
        ordering = ["name", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["name", "number"], name="model_version_once")
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.number}"

    def get_absolute_url(self) -> str:
        return reverse("modelversion-detail", args=[self.pk])

    @property
    def folder(self) -> str:
        """Where its files lie in the storage."""
        return f"models/{self.pk.hex[:2]}/{self.pk}"

    @property
    def called_by(self) -> list[str]:
        """What requests call it by; none where it isn't callable."""
        if self.form != self.Form.RECOGNISER:
            return [self.language_model.name] if self.language_model else []
        engine = TrainedEngine.objects.filter(name=self.name, number=self.number).first()
        return engine_names(engine) if engine else []

    @property
    def source(self) -> str:
        """As a LanguageModel's source."""
        return f"stored:{self.folder}"
