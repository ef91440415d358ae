"""Documents and their pages: what is read."""

from __future__ import annotations

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from mlops.models import User


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
