"""What `manage.py ocr_watch` has taken up."""

from __future__ import annotations

from django.db import models

from ocr.models.jobs import OcrJob


class WatchedFile(models.Model):
    """A file seen in a watched place, in one state of its content; a changed one is another row.

    waiting -> done | failed
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        FAILED = "failed"

    place = models.CharField(max_length=500, help_text="the folder or prefix that is watched")
    name = models.CharField(max_length=500, help_text="path below it")
    sha256 = models.CharField(max_length=64)
    signature = models.CharField(max_length=100, help_text="size and time of last change")
    settings_key = models.CharField(max_length=64, help_text="digest of how it is to be read")
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    job = models.ForeignKey(
        OcrJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    error = models.TextField(blank=True)
    seen_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-seen_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["place", "name", "sha256", "settings_key"], name="watched_once_a_content"
            )
        ]

    def __str__(self) -> str:
        return f"{self.place}/{self.name}"
