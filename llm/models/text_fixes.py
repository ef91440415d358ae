"""What a model would change in a text that was read: kept beside it, never in its place."""

from __future__ import annotations

from django.db import models
from django.db.models import Q, Sum
from django.urls import reverse

from llm.models.language_models import LanguageModel
from mlops.models import Job, JobQuerySet
from mlops.tracking import RunRecord
from ocr.models import OcrJob, PageResult


class TextFix(Job):
    """Corrects what one OCR job read, page by page. Transitions are Job's; idempotent by page.

    `max_change` bounds what a model may make of a line: edits as a share of its characters.
    """

    KIND = "llm.correct"
    QUEUE = "llm"

    ocr_job = models.ForeignKey(OcrJob, on_delete=models.CASCADE, related_name="text_fixes")
    model = models.ForeignKey(LanguageModel, null=True, on_delete=models.SET_NULL, related_name="+")
    asked_model = models.CharField(max_length=200, help_text="the name in the request")
    page_range = models.CharField(max_length=200, blank=True, help_text="1-3,7; empty for all")
    max_change = models.FloatField(help_text="0 to 1")
    reviewed_only = models.BooleanField(
        default=False, help_text="only pages that people have accepted, to be measured"
    )
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "text correction"

    def __str__(self) -> str:
        return f"Correction of {self.ocr_job.document} by {self.asked_model}"

    def get_absolute_url(self) -> str:
        return reverse("textfix-detail", args=[self.pk])

    def figures(self) -> dict[str, float | int | None]:
        """Counts over the pages, and the CER before and after on those that were reviewed."""
        scored = Q(characters__isnull=False)
        found = self.pages.aggregate(
            pages=models.Count("pk"),
            scored=models.Count("pk", filter=scored),
            changed=Sum("changed"),
            refused=Sum("refused"),
            characters=Sum("characters"),
            before=Sum("errors_before"),
            after=Sum("errors_after"),
        )
        characters = found["characters"]
        return {
            "pages": found["pages"],
            "lines_changed": found["changed"] or 0,
            "lines_refused": found["refused"] or 0,
            "pages_scored": found["scored"],
            "cer_before": found["before"] / characters if characters else None,
            "cer_after": found["after"] / characters if characters else None,
        }

    def run_record(self) -> RunRecord:
        figures = {name: value for name, value in self.figures().items() if value is not None}
        return RunRecord(
            name=f"correction {self.ocr_job.document.name}"[:200],
            experiment="text-correction",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at.timestamp() if self.started_at else None,
            finished=self.finished_at.timestamp() if self.finished_at else None,
            params={"model": self.asked_model, "max_change": self.max_change},
            metrics={
                **figures,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
                "seconds": round(self.seconds or 0, 3),
            },
            tags={"job_id": str(self.pk), "job_status": self.status},
        )


class PageFix(models.Model):
    """One page of a correction.

    `lines`: [{"line" (its number in the result, from 0), "before", "after", "refused" (why the
    original stands, "" where the change does), "accepted" (by whom it was taken over)}, …], those
    alone that the model would have otherwise. Where the page has an accepted text, `errors_before`
    and `errors_after` are edits to it, of `characters`, by the rules of `ocr.quality_rows`.
    """

    fix = models.ForeignKey(TextFix, on_delete=models.CASCADE, related_name="pages")
    result = models.ForeignKey(PageResult, on_delete=models.CASCADE, related_name="fixes")
    lines = models.JSONField(default=list)
    changed = models.PositiveIntegerField(default=0, help_text="lines")
    refused = models.PositiveIntegerField(default=0, help_text="lines")
    characters = models.PositiveIntegerField(null=True, blank=True)
    errors_before = models.PositiveIntegerField(null=True, blank=True)
    errors_after = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["fix", "result__page__number"]
        constraints = [models.UniqueConstraint(fields=["fix", "result"], name="fix_once_a_page")]

    def __str__(self) -> str:
        return f"{self.result.page} by {self.fix.asked_model}"
