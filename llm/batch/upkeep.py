"""What keeps files and batches in order without anyone's help; called by maintenance."""

from __future__ import annotations

import time

from llm.batch.results import results_write
from llm.files import stored_file_delete
from llm.models import LlmBatch, StoredFile
from mlops.models import Job

AT_ONCE = 200
# Between two times that one process does it.
EXPIRE_SECONDS = 60.0

_expired_at = -EXPIRE_SECONDS


def round_once() -> int:
    """Deletes files whose time is over, and settles cancelled batches; returns how many files."""
    global _expired_at
    batches_settle()
    if time.monotonic() - _expired_at < EXPIRE_SECONDS:
        return 0
    _expired_at = time.monotonic()
    return files_expire()


def files_expire() -> int:
    """A file that a batch still reads stays until that has ended."""
    read = LlmBatch.objects.filter(status__in=[Job.Status.QUEUED, Job.Status.RUNNING])
    old = StoredFile.objects.expired().exclude(pk__in=read.values("input_file"))
    files = list(old.order_by("expires_at")[:AT_ONCE])
    for file in files:
        stored_file_delete(file=file)
    return len(files)


def batches_settle() -> int:
    """Writes what is answered of batches that were cancelled without their worker; how many."""
    left = LlmBatch.objects.filter(
        status=Job.Status.CANCELLED, written=False, in_progress_at__isnull=False
    )
    batches = list(left.order_by("finished_at")[:AT_ONCE])
    for batch in batches:
        results_write(batch, unanswered="batch_cancelled")
    return len(batches)
