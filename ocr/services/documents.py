"""Writes of documents; `ocr.intake` holds what workers do as well."""

from __future__ import annotations

from django.db import transaction

from ocr.intake import document_create, document_reuse_or_create
from ocr.models import Document

__all__ = ["document_create", "document_delete", "document_reuse_or_create"]


def document_delete(*, document: Document) -> None:
    """Deletes the document with its jobs and results, and its file once that is certain."""
    storage, name = document.file.storage, document.file.name
    with transaction.atomic():
        document.delete()
        transaction.on_commit(lambda: storage.delete(name))
