"""Which documents are to be indexed: noted in rows, and turned into a job now and then."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from llm.models import DocumentIndex, IndexJob, SearchJob
from llm.retrieval.embedding import embedding_model
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr.models import Document, PageResult

AUTO = "auto"
# Somebody who corrects a page changes many lines: one look at it after these seconds does for all.
SETTLE_SECONDS = 5.0
# A search that nobody came back for.
FORGET = timedelta(minutes=10)
BATCH = 500


def text_changed(*, document_id: uuid.UUID) -> None:
    """The document was read, or somebody changed its text. Named in OCR_TEXT_LISTENERS.

    One row at most is written, in the transaction of the change.
    """
    at = Now() + timedelta(seconds=SETTLE_SECONDS)
    rows = DocumentIndex.objects.filter(key=document_id)
    if settings.LLM_INDEX == AUTO and not rows.exists():
        DocumentIndex.objects.bulk_create(
            [DocumentIndex(key=document_id, document_id=document_id, wanted_at=at)],
            ignore_conflicts=True,
        )
    else:
        # One that is wanted already stays wanted from when it was.
        rows.filter(wanted_at=None).update(wanted_at=at)


def documents_want(documents: Iterable[uuid.UUID]) -> int:
    """Wants these documents indexed at once; returns how many have been read at all."""
    wanted = 0
    keys = list(documents)
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        was_read = PageResult.objects.filter(page__document=OuterRef("pk"), error="")
        read = Document.objects.filter(Exists(was_read), pk__in=part).values_list("pk", flat=True)
        found = list(read)
        DocumentIndex.objects.bulk_create(
            [DocumentIndex(key=pk, document_id=pk) for pk in found], ignore_conflicts=True
        )
        wanted += DocumentIndex.objects.filter(key__in=found).update(wanted_at=Now())
    return wanted


def index_job_create(*, owner: User | None) -> IndexJob:
    """A job that indexes what is due, sent to a worker."""
    model = embedding_model()
    with transaction.atomic():
        job = IndexJob.objects.create(
            kind=IndexJob.KIND,
            # A folder of vectors is open in one worker alone: the one that searches it.
            queue=model.queue if model else IndexJob.QUEUE,
            max_attempts=settings.JOB_MAX_ATTEMPTS,
            owner=owner,
            # Nobody waits for it.
            priority=7,
            sent_at=Now(),
        )
        job_enqueue(job=job)
    return job


def index_when_due() -> bool:
    """Makes an index job if something is due and none is under way. A step of maintenance.

    Of two made at once each takes other documents: rows are claimed one by one.
    """
    _forget()
    if not DocumentIndex.objects.due().exists():
        return False
    if IndexJob.objects.unfinished().filter(owner=None).exists():
        return False
    index_job_create(owner=None)
    return True


def _forget() -> None:
    """Index jobs of no news, and searches whose asker is gone."""
    old = Now() - FORGET
    ended = [Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED]
    SearchJob.objects.filter(status__in=ended, finished_at__lt=old).delete()
    SearchJob.objects.filter(status=Job.Status.QUEUED, created_at__lt=old).delete()
