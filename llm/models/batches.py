"""OpenAI's Batch API: many requests as one job, a row for each line."""

from __future__ import annotations

import uuid

from django.db import models
from django.urls import reverse

from llm.models.files import StoredFile
from llm.models.language_models import LanguageModel
from mlops.models import ApiKey, Job, JobQuerySet
from mlops.tracking import RunRecord

BATCH_PREFIX = "batch_"


class LlmBatch(Job):
    """The requests of one file, answered in a worker. Transitions are Job's.

    Files are named without a constraint: a batch still says which they were once they are deleted.
    Lines hold the answers until these are written to files, which is done once, at the end.
    """

    class Endpoint(models.TextChoices):
        CHAT = "/v1/chat/completions"
        COMPLETION = "/v1/completions"
        EMBEDDING = "/v1/embeddings"

    KIND = "llm.batch"
    QUEUE = "llm"

    endpoint = models.CharField(max_length=50, choices=Endpoint)
    input_file = models.ForeignKey(
        StoredFile, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    output_file = models.ForeignKey(
        StoredFile,
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    error_file = models.ForeignKey(
        StoredFile,
        null=True,
        blank=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
    )
    completion_window = models.CharField(max_length=10, default="24h")
    output_expires_seconds = models.PositiveIntegerField(null=True, blank=True)
    metadata = models.JSONField(null=True, blank=True)
    model = models.ForeignKey(
        LanguageModel, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    asked_model = models.CharField(
        max_length=200, blank=True, help_text="the name in the requests: one for all"
    )
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True, blank=True)
    finalizing_at = models.DateTimeField(null=True, blank=True)
    cancelling_at = models.DateTimeField(null=True, blank=True)
    # Its results are in files, and its lines are gone.
    written = models.BooleanField(default=False, editable=False)
    # [{code, line, message, param}] of lines that can't be run; then none is.
    line_errors = models.JSONField(default=list, blank=True)

    total = models.PositiveIntegerField(default=0)
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "LLM batch"
        verbose_name_plural = "LLM batches"

    def __str__(self) -> str:
        return f"{self.total or 'new'} requests to {self.asked_model or self.endpoint}"

    def get_absolute_url(self) -> str:
        return reverse("llm-batch", args=[self.public_id])

    @property
    def public_id(self) -> str:
        """What clients know it by: `batch_…`."""
        return f"{BATCH_PREFIX}{self.pk.hex}"

    @property
    def state(self) -> str:
        """The status in OpenAI's words."""
        if self.finished:
            if self.status == self.Status.SUCCEEDED:
                return "completed"
            if self.status == self.Status.CANCELLED:
                return "cancelled"
            return "expired" if self.error_code == "batch_expired" else "failed"
        if self.cancelling_at or self.cancel_requested:
            return "cancelling"
        if self.finalizing_at:
            return "finalizing"
        return "in_progress" if self.in_progress_at else "validating"

    def run_record(self) -> RunRecord:
        seconds = self.seconds or 0
        tokens = self.completion_tokens
        return RunRecord(
            name=f"batch {self.asked_model}"[:200],
            experiment="llm",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={
                "model": self.asked_model,
                "endpoint": self.endpoint,
                "input_file": self.input_file_id,
            },
            metrics={
                "requests": self.total,
                "completed": self.completed,
                "failed": self.failed,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(tokens / seconds, 3) if seconds else 0.0,
            },
            tags={"job_id": str(self.pk), "job_status": self.status},
        )


class BatchLine(models.Model):
    """One request of a batch: where it stands in the file, and what was answered.

    waiting -> done | failed, by one conditional update, so that no line is answered twice.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    batch = models.ForeignKey(LlmBatch, on_delete=models.CASCADE, related_name="lines")
    number = models.PositiveIntegerField(help_text="of the line in the file, counted from 1")
    custom_id = models.CharField(max_length=512)
    # Bytes from the file's start; the request itself is read from there when its turn comes.
    offset = models.PositiveBigIntegerField()
    length = models.PositiveIntegerField(help_text="bytes")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    request_id = models.UUIDField(default=uuid.uuid4, editable=False)
    # JSON as it goes to the file: text, because PostgreSQL's JSON holds no \u0000.
    answer = models.TextField(blank=True, help_text="the body of the answer, or of the error")
    status_code = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["batch", "number"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "number"], name="batch_line_once"),
            models.UniqueConstraint(fields=["batch", "custom_id"], name="batch_line_custom_id"),
        ]
        indexes = [models.Index(fields=["batch", "state", "number"], name="batch_line_state")]

    def __str__(self) -> str:
        return f"line {self.number}: {self.custom_id}"
