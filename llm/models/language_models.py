"""Language models, the adapters on them, the names that route to them, and who holds what."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

MODEL_NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
    "Letters, digits and . _ : / @ - only, beginning with a letter or digit.",
)


class LanguageModelQuerySet(models.QuerySet):
    def callable(self) -> LanguageModelQuerySet:
        """What requests may name: enabled, and an adapter only where its base is too."""
        return self.filter(enabled=True).filter(Q(base=None) | Q(base__enabled=True))


class LanguageModel(models.Model):
    """A model that requests name by `name`; with `base` set, a LoRA adapter on that one.

    `source` is a hub name, a folder of the worker, or an MLflow URI (`models:/name@champion`).
    """

    class Task(models.TextChoices):
        GENERATE = "text-generation", "text generation"
        EMBED = "embeddings"

    class Dtype(models.TextChoices):
        AUTO = "auto", "what the device is fastest with"
        FLOAT32 = "float32"
        BFLOAT16 = "bfloat16"
        FLOAT16 = "float16"

    class Quantization(models.TextChoices):
        NONE = "", "none"
        INT8 = "int8", "8-bit"
        INT4 = "int4", "4-bit"

    name = models.CharField(max_length=200, unique=True, validators=[MODEL_NAME])
    base = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="adapters",
        help_text="for a LoRA adapter, the model it was trained on",
    )
    task = models.CharField(max_length=30, choices=Task, default=Task.GENERATE)
    engine = models.CharField(max_length=50, default="transformers", help_text="as in ENGINES")
    source = models.CharField(
        max_length=500,
        blank=True,
        help_text="hub name, folder of the worker, or models:/name@alias of MLflow",
    )
    dtype = models.CharField(max_length=20, choices=Dtype, default=Dtype.AUTO)
    device = models.CharField(
        max_length=50, default="auto", help_text="auto, cpu, cuda, cuda:1, or map for several"
    )
    quantization = models.CharField(
        max_length=10, choices=Quantization, default=Quantization.NONE, blank=True
    )
    context_length = models.PositiveIntegerField(default=0, help_text="tokens; 0: the model's own")
    chat_template = models.TextField(blank=True, help_text="Jinja; empty: the tokenizer's own")
    options = models.JSONField(default=dict, blank=True, help_text="of the engine")

    enabled = models.BooleanField(default=True, help_text="may be called")
    warm = models.BooleanField(
        default=False, help_text="workers hold it before anybody asks, and never drop it"
    )
    # Workers drop what they had loaded before this moment, once it is idle.
    unload_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    queue = models.CharField(max_length=50, default="llm", help_text="whose workers run it")
    store_texts = models.BooleanField(
        default=False, help_text="keep prompts and answers with their requests"
    )
    trace = models.BooleanField(default=False, help_text="log each request to MLflow")
    notes = models.TextField(blank=True)
    mlflow_run_id = models.CharField(
        max_length=64, blank=True, help_text="of the training that it came from"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = LanguageModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.base is not None and self.base.base_id is not None:
            raise ValidationError({"base": "An adapter can't be the base of another."})
        if self.base is not None and self.base_id == self.pk:
            raise ValidationError({"base": "A model can't be its own base."})
        if self.base is not None and not self.source:
            raise ValidationError({"source": "Say where the adapter's files are."})
        if ModelAlias.objects.filter(name=self.name).exists():
            raise ValidationError({"name": "An alias has this name."})

    @property
    def root(self) -> LanguageModel:
        """The model that is loaded for this one."""
        return self.base or self


class ModelAlias(models.Model):
    """A name that stands for one model, or for several that share its requests by weight."""

    name = models.CharField(max_length=200, unique=True, validators=[MODEL_NAME])
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "model aliases"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if LanguageModel.objects.filter(name=self.name).exists():
            raise ValidationError({"name": "A model has this name."})


class AliasTarget(models.Model):
    """One model behind an alias; it takes weight / sum of weights of the alias's requests."""

    alias = models.ForeignKey(ModelAlias, on_delete=models.CASCADE, related_name="targets")
    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="+")
    weight = models.PositiveIntegerField(default=100)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["alias", "model"], name="alias_target_once"),
        ]

    def __str__(self) -> str:
        return f"{self.alias} -> {self.model} ({self.weight})"


class ModelInstance(models.Model):
    """A model in one worker's memory, as that worker last said; gone when it says no more."""

    class State(models.TextChoices):
        LOADING = "loading"
        READY = "ready"
        FAILED = "failed"

    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="instances")
    worker = models.CharField(max_length=200)
    state = models.CharField(max_length=20, choices=State)
    device = models.CharField(max_length=200, blank=True)
    memory_bytes = models.BigIntegerField(default=0)
    active_requests = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    loaded_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "worker"], name="instance_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} in {self.worker}: {self.state}"
