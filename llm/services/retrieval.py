"""Writes of retrieval: searches by meaning, and what is to be indexed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import transaction
from django.db.models.functions import Now

from llm.models import IndexJob, SearchJob
from llm.retrieval.searching import Plan
from llm.retrieval.wishes import documents_want, index_job_create
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr.models import Document


def search_submit(*, plan: Plan) -> SearchJob:
    """Sends a search by meaning to the worker that holds the model."""
    assert plan.model is not None
    with transaction.atomic():
        job = SearchJob.objects.create(
            kind=SearchJob.KIND,
            queue=plan.model.queue,
            max_attempts=1,
            owner=plan.user,
            # Somebody waits for it.
            priority=0,
            query=plan.query,
            documents=plan.documents and [str(one) for one in plan.documents],
            limit=plan.depth,
            model=plan.model,
            sent_at=Now(),
        )
        job_enqueue(job=job)
    return job


def search_take(*, pk: uuid.UUID) -> SearchJob | None:
    """The search's row as it is, taken out of the database; None if it is gone."""
    job = SearchJob.objects.filter(pk=pk).first()
    if job is not None and (job.finished or job.status == Job.Status.QUEUED):
        # One that runs is left to its worker, and goes with maintenance.
        SearchJob.objects.filter(pk=pk).delete()
    return job


def index_submit(
    *, user: User, documents: Sequence[uuid.UUID] | None = None
) -> tuple[IndexJob, int]:
    """Has documents that the user sees indexed, all of them by default: (job, how many)."""
    visible = Document.objects.visible_to(user)
    if documents is not None:
        visible = visible.filter(pk__in=documents)
    count = documents_want(visible.order_by("created_at").values_list("pk", flat=True))
    return index_job_create(owner=user), count
