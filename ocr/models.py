"""Documents, the jobs that read them, and what was read."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from mlops.models import Job, JobQuerySet, User
from mlops.tracking import RunRecord


def document_path(document: Document, filename: str) -> str:
    """A place of the document's own; what the upload was called is never part of a path."""
    return f"documents/{document.pk.hex[:2]}/{document.pk}/original{document.extension}"


class DocumentQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if user.sees_all else self.filter(owner=user)


class Document(models.Model):
    """A file to be read, stored as it came; its type and page count come from its content."""

    class Source(models.TextChoices):
        API = "api", "API"
        CONSOLE = "console"
        COMMAND = "command"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="documents",
    )
    name = models.CharField(max_length=255)
    file = models.FileField(upload_to=document_path, max_length=200)
    size = models.PositiveBigIntegerField(help_text="bytes")
    sha256 = models.CharField(max_length=64, db_index=True)
    media_type = models.CharField(max_length=50)
    extension = models.CharField(max_length=10)
    page_count = models.PositiveIntegerField()
    source = models.CharField(max_length=10, choices=Source)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DocumentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["owner", "-created_at"], name="document_owner")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("document-detail", args=[self.pk])


class Page(models.Model):
    """One page of a document; what is said of a page in any job hangs on this row."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="pages")
    number = models.PositiveIntegerField(help_text="counted from 1")

    class Meta:
        ordering = ["document", "number"]
        constraints = [
            models.UniqueConstraint(fields=["document", "number"], name="page_once_a_document")
        ]

    def __str__(self) -> str:
        return f"{self.document} p. {self.number}"


class OcrJob(Job):
    """Reads one document. Transitions are Job's; idempotent by (job, page).

    `engine` and `language` are what was asked for ("auto" leaves the choice to each page);
    what was used stands in each page's result.
    """

    KIND = "ocr.extract_text"
    QUEUE = "ocr"

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="jobs")
    engine = models.CharField(max_length=50, default="auto")
    language = models.CharField(max_length=100, default="auto")
    min_confidence = models.FloatField(help_text="lines below it are flagged, never dropped")
    dpi = models.PositiveIntegerField(help_text="at which PDF pages are drawn")

    mean_confidence = models.FloatField(null=True, blank=True)
    engine_seconds = models.FloatField(default=0, help_text="spent in engines, over all pages")
    pages_failed = models.PositiveIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "OCR job"

    def __str__(self) -> str:
        return f"OCR of {self.document}"

    def get_absolute_url(self) -> str:
        return reverse("ocrjob-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        from ocr.results import job_json, to_json

        results = list(self.results.select_related("page"))
        done = [result for result in results if not result.error]
        pages = len(done)
        metrics = {
            "pages": pages,
            "pages_failed": len(results) - pages,
            "engine_seconds": round(self.engine_seconds, 3),
            "seconds": round(self.seconds or 0, 3),
            "pages_per_second": round(pages / self.seconds, 3) if self.seconds else 0.0,
        }
        if self.mean_confidence is not None:
            metrics["mean_confidence"] = round(self.mean_confidence, 4)
        return RunRecord(
            name=f"ocr {self.document.name}"[:200],
            experiment="ocr",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={
                "engine": self.engine,
                "engines_used": ",".join(sorted({r.engine for r in done})),
                "model_version": ",".join(sorted({r.model_version for r in done})),
                "language": self.language,
                "languages_used": ",".join(sorted({r.language for r in done})),
                "device": ",".join(sorted({r.device for r in done}))[:500],
                "dpi": self.dpi,
                "min_confidence": self.min_confidence,
                "host": self.worker.partition(":")[0],
            },
            metrics=metrics,
            tags={
                "job_id": str(self.pk),
                "job_status": self.status,
                "document_sha256": self.document.sha256,
            },
            artifacts={"result.json": to_json(job_json(self, results))},
        )


class PageResult(models.Model):
    """What one job read on one page. `lines`, in reading order:

    [{"text", "confidence" (0 to 1), "polygon" ([[x, y], …] clockwise from the top left, pixels of
    the page as rasterised)}, …]. A page that could not be read has `error` and no lines.
    """

    job = models.ForeignKey(OcrJob, on_delete=models.CASCADE, related_name="results")
    page = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="results")
    text = models.TextField(blank=True)
    lines = models.JSONField(default=list)
    mean_confidence = models.FloatField(null=True, blank=True)
    width = models.PositiveIntegerField(default=0, help_text="pixels")
    height = models.PositiveIntegerField(default=0, help_text="pixels")
    dpi = models.PositiveIntegerField(null=True, blank=True)
    engine = models.CharField(max_length=50, blank=True)
    language = models.CharField(max_length=100, blank=True)
    model_version = models.CharField(max_length=200, blank=True)
    device = models.CharField(max_length=200, blank=True)
    seconds = models.FloatField(default=0)
    note = models.TextField(blank=True, help_text="why another engine or language was taken")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["job", "page__number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "page"], name="result_once_a_job_and_page")
        ]

    def __str__(self) -> str:
        return f"{self.page} ({self.engine or 'failed'})"

    @cached_property
    def low_confidence(self) -> int:
        """How many lines stand below the job's threshold."""
        return sum(line["confidence"] < self.job.min_confidence for line in self.lines)
