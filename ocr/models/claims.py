"""Who reads which page of a job that several workers read at once."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models.functions import Now

from ocr.models.documents import Page
from ocr.models.jobs import OcrJob


class PageClaim(models.Model):
    """A page under way. It only keeps two workers from the same work: results are unique anyway.

    Kept alive while the page is read; one whose `until` has passed may be taken over.
    """

    job = models.ForeignKey(OcrJob, on_delete=models.CASCADE, related_name="claims")
    page = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="+")
    worker = models.CharField(max_length=200)
    until = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "page"], name="claim_once_a_job_and_page")
        ]

    def __str__(self) -> str:
        return f"{self.page} by {self.worker}"

    def renew(self, seconds: float) -> bool:
        """Pushes the claim on from now; False if somebody else has taken it over."""
        own = PageClaim.objects.filter(pk=self.pk, worker=self.worker)
        return bool(own.update(until=Now() + timedelta(seconds=seconds)))
