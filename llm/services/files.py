"""Writes of stored files; `llm.files` holds what workers do as well."""

from __future__ import annotations

from llm import files
from llm.files import stored_file_create
from llm.models import LlmBatch, StoredFile
from mlops.exceptions import NotAllowed
from mlops.models import Job

__all__ = ["stored_file_create", "stored_file_delete"]


def stored_file_delete(*, file: StoredFile) -> None:
    """Raises NotAllowed while a batch still reads it."""
    reading = LlmBatch.objects.filter(
        input_file=file.pk, status__in=[Job.Status.QUEUED, Job.Status.RUNNING]
    ).first()
    if reading is not None:
        raise NotAllowed(
            f"{reading.public_id} reads this file. Cancel the batch, or wait for its end.",
            code="file_in_use",
        )
    files.stored_file_delete(file=file)
