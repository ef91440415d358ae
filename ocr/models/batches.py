"""Many documents as one job."""

from __future__ import annotations

from django.db import models
from django.db.models import Q, Sum
from django.urls import reverse

from mlops.models import Job, JobQuerySet
from mlops.tracking import RunRecord
from ocr.models.documents import Document
from ocr.models.jobs import OcrJob
from ocr.models.options import ReadOptions


class OcrBatch(Job, ReadOptions):
    """One job over many documents: it makes an OcrJob for each and ends with the last of them.

    Progress is counted in pages. `prefix` names a folder of the documents' storage to take in.
    Some documents that fail make the batch fail too; what was read of the others is kept.
    """

    KIND = "ocr.batch"
    QUEUE = "ocr"

    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=500, blank=True, help_text="of the storage: inbox/2026/")

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "OCR batch"
        verbose_name_plural = "OCR batches"

    def __str__(self) -> str:
        return f"OCR of {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("ocrbatch-detail", args=[self.pk])

    def outcome_of_children(self, *, failed: int, cancelled: int) -> tuple[str, str, str]:
        status, _code, _error = super().outcome_of_children(failed=failed, cancelled=cancelled)
        if status == self.Status.CANCELLED:
            return status, "", ""
        total = self.items.count()
        refused = self.items.exclude(error="").count()
        if not total:
            return self.Status.FAILED, "no_documents", "There was no document to read."
        if not (failed or cancelled or refused):
            return self.Status.SUCCEEDED, "", ""
        error = (
            f"{failed + cancelled + refused} of {total} documents were not read whole: {failed} "
            f"failed, {cancelled} were cancelled, {refused} could not be taken in. The others' "
            "results are kept; a retry reads only what is missing."
        )
        return self.Status.FAILED, "documents_failed", error

    def run_record(self) -> RunRecord:
        jobs = OcrJob.objects.filter(parent=self)
        totals = jobs.aggregate(
            engine_seconds=Sum("engine_seconds"), pages_failed=Sum("pages_failed")
        )
        statuses = dict(jobs.order_by().values_list("status").annotate(models.Count("pk")))
        metrics = {
            "documents": self.items.count(),
            "documents_failed": statuses.get(self.Status.FAILED, 0)
            + self.items.exclude(error="").count(),
            "pages": self.progress_done,
            "pages_failed": totals["pages_failed"] or 0,
            "engine_seconds": round(totals["engine_seconds"] or 0, 3),
            "seconds": round(self.seconds or 0, 3),
        }
        return RunRecord(
            name=f"ocr batch {self.name}"[:200],
            experiment="ocr",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={
                "engine": self.engine,
                "language": self.language,
                "dpi": self.dpi,
                "page_range": self.page_range,
                "text_layer": self.text_layer,
                "rotate": self.rotate,
                "prefix": self.prefix,
            },
            metrics=metrics,
            tags={"job_id": str(self.pk), "job_status": self.status},
        )


class BatchItem(models.Model):
    """One document of a batch; `error` says why it could not be taken in.

    `path` is where in the storage it comes from, "" if it was a document already.
    """

    batch = models.ForeignKey(OcrBatch, on_delete=models.CASCADE, related_name="items")
    name = models.CharField(max_length=500)
    path = models.CharField(max_length=1000, blank=True)
    document = models.ForeignKey(
        Document, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    job = models.OneToOneField(
        OcrJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="batch_item"
    )
    error_code = models.CharField(max_length=100, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["batch", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "path"],
                condition=~Q(path=""),
                name="batch_item_once_a_batch_and_path",
            )
        ]

    def __str__(self) -> str:
        return self.name
