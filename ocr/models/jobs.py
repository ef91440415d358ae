"""The jobs that read documents."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from mlops.models import Job, JobQuerySet
from mlops.tracking import RunRecord
from ocr.models.documents import Document
from ocr.models.options import ReadOptions


class OcrJob(Job, ReadOptions):
    """Reads one document. Transitions are Job's; idempotent by (job, page).

    The options are what was asked for; what was used stands in each page's result.
    """

    KIND = "ocr.extract_text"
    QUEUE = "ocr"

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="jobs")
    reading_key = models.CharField(
        max_length=64,
        blank=True,
        db_index=True,
        help_text="digest of the document's content and of how it is read",
    )
    reused_from = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="the earlier job whose pages were taken over",
    )

    device = models.CharField(max_length=500, blank=True, help_text="what the pages were read on")
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
                "page_range": self.page_range,
                "text_layer": self.text_layer,
                "rotate": self.rotate,
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
