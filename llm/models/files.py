"""Files of OpenAI's Files API: what clients upload for batches and training, and what comes out."""

from __future__ import annotations

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from mlops.models import User


def file_id() -> str:
    return f"file-{uuid.uuid4().hex}"


def stored_file_path(file: StoredFile, filename: str) -> str:
    """A place of the file's own; what the upload was called is never part of a path."""
    return f"files/{file.pk[5:7]}/{file.pk}"


class StoredFileQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if user.sees_all else self.filter(owner=user)

    def unexpired(self) -> Self:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=Now()))

    def expired(self) -> Self:
        return self.filter(expires_at__lte=Now())


class StoredFile(models.Model):
    """A file with a purpose, stored as it came. `id` is what clients know it by: `file-…`."""

    class Purpose(models.TextChoices):
        FINE_TUNE = "fine-tune"
        BATCH = "batch"
        VISION = "vision"
        USER_DATA = "user_data"
        EVALS = "evals"
        BATCH_OUTPUT = "batch_output", "output of a batch"
        FINE_TUNE_RESULTS = "fine-tune-results", "results of fine-tuning"

    class Status(models.TextChoices):
        UPLOADED = "uploaded"
        PROCESSED = "processed"
        ERROR = "error"

    # What a client may upload; the others are made here.
    UPLOADS = (
        *(Purpose.FINE_TUNE, Purpose.BATCH, Purpose.VISION),
        *(Purpose.USER_DATA, Purpose.EVALS),
    )

    id = models.CharField(primary_key=True, max_length=40, default=file_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="stored_files",
    )
    purpose = models.CharField(max_length=20, choices=Purpose)
    filename = models.CharField(max_length=255)
    file = models.FileField(upload_to=stored_file_path, max_length=200)
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PROCESSED)
    status_details = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = StoredFileQuerySet.as_manager()

    class Meta:
        verbose_name = "file"
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="stored_file_owner"),
            models.Index(fields=["expires_at"], name="stored_file_expiry"),
        ]

    def __str__(self) -> str:
        return self.filename
