"""What was read."""

from __future__ import annotations

from functools import cached_property

from django.db import models

from ocr.models.documents import Page
from ocr.models.jobs import OcrJob


class PageResult(models.Model):
    """What one job read on one page.

    `lines`, in reading order: [{"text", "confidence" (0 to 1), "polygon" ([[x, y], …] clockwise
    from the text's top left), "spans" (for each word, where it begins and ends as a share of the
    line's length; left out where the engine can't tell)}, …].

    `blocks`, in reading order, which divide the lines: [{"kind" (text, heading, table), "level"
    (of a heading, 1 to 3; else 0), "box" ([left, top, right, bottom]), "lines" ([first, end):
    numbers of lines from 0), "rows" (a table's: rows of cells of line numbers)}, …].

    Geometry is in pixels of the page as rasterised and put upright: `rotation` is by how many
    degrees (0, 90, 180, 270, clockwise) it was turned for that. `skew` is what the text still
    leans by, in degrees clockwise. A page that could not be read has `error` and no lines.
    """

    job = models.ForeignKey(OcrJob, on_delete=models.CASCADE, related_name="results")
    page = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="results")
    text = models.TextField(blank=True)
    lines = models.JSONField(default=list)
    blocks = models.JSONField(default=list)
    mean_confidence = models.FloatField(null=True, blank=True)
    width = models.PositiveIntegerField(default=0, help_text="pixels")
    height = models.PositiveIntegerField(default=0, help_text="pixels")
    dpi = models.PositiveIntegerField(null=True, blank=True)
    rotation = models.PositiveSmallIntegerField(default=0, help_text="degrees clockwise")
    skew = models.FloatField(default=0, help_text="degrees clockwise, left as it is")
    engine = models.CharField(max_length=250, blank=True)
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
