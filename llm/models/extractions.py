"""Values taken out of documents: what is asked for, the jobs, and what people make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.urls import reverse

from llm.models.language_models import LanguageModel
from llm.models.ordered_json import OrderedJSONField
from mlops.models import Job, JobQuerySet, User
from mlops.tracking import RunRecord
from ocr.models import Document, OcrJob

TEMPLATE_NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    "Letters, digits and . _ - only, beginning with one of the first.",
)


class ExtractionTemplateQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """Everybody's and one's own."""
        return self if user.sees_all else self.filter(Q(owner=None) | Q(owner=user))


class ExtractionTemplate(models.Model):
    """A JSON Schema under a name, with what a model is told and shown beside it.

    Without an owner it is everybody's. Built-in ones are brought up to date by each migrate.
    `examples`: [{"text": …, "values": {…}}, …].
    """

    name = models.CharField(max_length=100, validators=[TEMPLATE_NAME])
    title = models.CharField(max_length=200, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="extraction_templates",
        help_text="empty: everybody may use it",
    )
    schema = OrderedJSONField(help_text="JSON Schema of an object")
    instructions = models.TextField(blank=True, help_text="told to the model")
    examples = OrderedJSONField(
        default=list, blank=True, help_text='[{"text": "…", "values": {…}}, …], shown to the model'
    )
    built_in = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = ExtractionTemplateQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(owner=None), name="template_once_for_all"
            ),
            models.UniqueConstraint(
                fields=["owner", "name"],
                condition=Q(owner__isnull=False),
                name="template_once_an_owner",
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.name


class ExtractionOptions(models.Model):
    """What is to be extracted and by what: what a job and a batch of jobs share.

    The schema stands here as it was when it was asked for, whatever becomes of the template.
    `ocr_engine` and `language` are for a document that has not been read yet.
    """

    class Engine(models.TextChoices):
        RULES = "rules", "rules, without a model"
        MODEL = "model", "language model"

    template = models.ForeignKey(
        ExtractionTemplate, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    schema = OrderedJSONField()
    instructions = models.TextField(blank=True)
    examples = OrderedJSONField(default=list, blank=True)
    engine = models.CharField(max_length=10, choices=Engine, default=Engine.RULES)
    model = models.ForeignKey(
        LanguageModel, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    model_name = models.CharField(max_length=200, blank=True, help_text="the name in the request")
    ocr_engine = models.CharField(max_length=50, default="auto")
    language = models.CharField(max_length=100, default="auto")

    class Meta:
        abstract = True

    @property
    def engine_name(self) -> str:
        """The model's name, or "rules"."""
        return self.model_name or self.engine


class ExtractionJob(Job, ExtractionOptions):
    """Values of one document. Transitions are Job's; a document without a reading is read first.

    `values` are the engine's, `problems` where they break the schema: [{"path", "message"}, …].
    `evidence` says by JSON pointer where a value stands: {"/total": {"page", "lines" (numbers from
    0), "polygons" (in pixels of the upright page), "match" (exact, normalised, fuzzy), "score",
    "text"}, …}. Review: open -> accepted; accepted -> open. `corrected` are the values as people
    left them, None if nobody changed any; `version` counts the changes.
    """

    KIND = "llm.extract"
    # Rules run where pages are read; a model's job goes to the model's own queue.
    QUEUE = "ocr"

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="extractions")
    ocr_job = models.ForeignKey(
        OcrJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="extractions"
    )
    values = OrderedJSONField(null=True, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    problems = models.JSONField(default=list, blank=True)
    seconds_engine = models.FloatField(default=0, help_text="spent by the engine")
    tries = models.PositiveSmallIntegerField(default=0, help_text="answers asked of the model")
    windows = models.PositiveIntegerField(default=0, help_text="pieces the text was cut into")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)

    corrected = OrderedJSONField(null=True, blank=True)
    version = models.PositiveIntegerField(default=0)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="who changed or accepted it last",
    )
    accepted_at = models.DateTimeField(null=True, blank=True, db_index=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "extraction"

    def __str__(self) -> str:
        return f"Extraction from {self.document}"

    def get_absolute_url(self) -> str:
        return reverse("extraction-detail", args=[self.pk])

    @property
    def final(self) -> Mapping[str, Any] | None:
        """The values as they are by now: corrected ones, else the engine's."""
        return self.values if self.corrected is None else self.corrected

    def run_record(self) -> RunRecord:
        found = sum(value not in (None, "", []) for value in (self.values or {}).values())
        return RunRecord(
            name=f"extract {self.document.name}"[:200],
            experiment="extraction",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={
                "engine": self.engine_name,
                "template": self.template.name if self.template else "",
                "ocr_job": str(self.ocr_job_id or ""),
            },
            metrics={
                "fields": len((self.schema or {}).get("properties", {})),
                "fields_found": found,
                "fields_placed": len(self.evidence),
                "problems": len(self.problems),
                "seconds_engine": round(self.seconds_engine, 3),
                "tries": self.tries,
                "windows": self.windows,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
            tags={
                "job_id": str(self.pk),
                "job_status": self.status,
                "document_sha256": self.document.sha256,
            },
        )


class ExtractionBatch(Job, ExtractionOptions):
    """One job over many documents: it makes an ExtractionJob for each and ends with the last.

    `documents` are their ids; `failures` those that could not be taken up: [{"document", "code",
    "message"}, …]. Some that fail make the batch fail too; what was found in the others is kept.
    """

    KIND = "llm.extract_batch"
    QUEUE = "ocr"

    name = models.CharField(max_length=200)
    documents = models.JSONField(default=list)
    failures = models.JSONField(default=list, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "extraction batch"
        verbose_name_plural = "extraction batches"

    def __str__(self) -> str:
        return f"Extraction from {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("extractionbatch-detail", args=[self.pk])

    def outcome_of_children(self, *, failed: int, cancelled: int) -> tuple[str, str, str]:
        status, _code, _error = super().outcome_of_children(failed=failed, cancelled=cancelled)
        if status == self.Status.CANCELLED:
            return status, "", ""
        refused = len(self.failures)
        if not (failed or cancelled or refused):
            return self.Status.SUCCEEDED, "", ""
        error = (
            f"{failed + cancelled + refused} of {len(self.documents)} documents gave no values: "
            f"{failed} failed, {cancelled} were cancelled, {refused} could not be taken up. The "
            "others' values are kept; a retry goes over the missing ones only."
        )
        return self.Status.FAILED, "documents_failed", error

    def run_record(self) -> RunRecord:
        children = ExtractionJob.objects.filter(parent=self)
        return RunRecord(
            name=f"extract {self.name}"[:200],
            experiment="extraction",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={
                "engine": self.engine_name,
                "template": self.template.name if self.template else "",
            },
            metrics={
                "documents": len(self.documents),
                "documents_done": children.filter(status=self.Status.SUCCEEDED).count(),
                "seconds": round(self.seconds or 0, 3),
            },
            tags={"job_id": str(self.pk), "job_status": self.status},
        )
