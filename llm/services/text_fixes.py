"""Writes of corrections by models: asked for, and taken over into the review by people."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from llm.models import LanguageModel, PageFix, TextFix
from llm.selectors import model_resolve
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr import services as ocr_services
from ocr.models import Document, OcrJob, PageReview
from ocr.models.review import reviewable_results
from ocr.page_range import parse_page_range

log = structlog.get_logger(__name__)

# Edits as a share of a line's characters: text recognition seldom gets more of a line wrong.
MAX_CHANGE = 0.3


@dataclass(frozen=True, slots=True)
class Accepted:
    """`skipped`: lines that people have changed or removed since the page was read."""

    review: PageReview
    lines: int
    skipped: int


def text_fix_submit(
    *,
    ocr_job: OcrJob,
    model: str,
    owner: User | None,
    page_range: str = "",
    max_change: float = MAX_CHANGE,
    reviewed_only: bool = False,
    after: Job | None = None,
    send: bool = True,
) -> TextFix:
    """A correction of what the job read; without `send` its maker runs it.

    `after`: a job that has to succeed first.

    Raises ApplicationError for a job that has read nothing, or a model that writes no text.
    """
    found = model_resolve(model)
    if found.root.task != LanguageModel.Task.GENERATE:
        raise ApplicationError(
            f"The model '{model}' makes embeddings. Take one that writes text.",
            code="model_not_supported",
            param="model",
        )
    parse_page_range(page_range, ocr_job.document.page_count)
    if not ocr_job.results.filter(error="").exists():
        raise NotAllowed("The job has read no page yet, so there is nothing to correct.")
    with transaction.atomic():
        job = TextFix.objects.create(
            kind=TextFix.KIND,
            queue=found.root.queue,
            max_attempts=settings.JOB_MAX_ATTEMPTS,
            owner=owner,
            priority=5,
            ocr_job=ocr_job,
            model=found,
            asked_model=model,
            page_range=page_range,
            max_change=max_change,
            reviewed_only=reviewed_only,
            after=after,
            sent_at=Now() if send and after is None else None,
        )
        if send:
            job_enqueue(job=job)
    return job


def latest_reading(document: Document) -> OcrJob:
    """The document's newest job that has read something. Raises NotAllowed if none has."""
    read = document.jobs.filter(results__error="").order_by("-created_at").first()
    if read is None:
        raise NotAllowed(
            "The document has not been read yet. Read it first: POST /api/v1/ocr/jobs/."
        )
    return read


def text_fix_accept(*, page: PageFix, user: User, lines: Collection[int] | None = None) -> Accepted:
    """Takes changes over into the page's review, each as a correction by this user.

    `lines` are their numbers in the result; None for all that were not refused. What people have
    changed since stays as they left it. Raises ApplicationError for a page that isn't the user's,
    ReviewConflict for one that is accepted.
    """
    if not reviewable_results(user).filter(pk=page.result_id).exists():
        raise ApplicationError("You may not review this page.", code="not_found", status=404)
    with transaction.atomic():
        review = ocr_services.review_begin(result=page.result)
        taken = skipped = 0
        for change in page.lines:
            wanted = not change["refused"] if lines is None else change["line"] in lines
            if not wanted or not change["after"] or change["accepted"]:
                continue
            line = review.line(str(change["line"] + 1))
            if line is None or line["text"] != change["before"]:
                skipped += 1
                continue
            correction = ocr_services.line_edit(
                review=review,
                user=user,
                version=review.version,
                line_id=line["id"],
                text=change["after"],
            )
            review = correction.review if correction else review
            change["accepted"] = user.username
            taken += 1
        page.save(update_fields=["lines"])
    return Accepted(review, taken, skipped)


def auto_correct(*, document_id: uuid.UUID) -> None:
    """Has what is being read corrected by the model of LLM_AUTO_CORRECT, once it is read.

    Named in OCR_TEXT_LISTENERS. Without that setting nothing is corrected unasked.
    """
    model = settings.LLM_AUTO_CORRECT
    if not model:
        return
    running = OcrJob.objects.filter(document=document_id, status=Job.Status.RUNNING)
    for ocr_job in running.exclude(text_fixes__asked_model=model).select_related("document"):
        try:
            text_fix_submit(ocr_job=ocr_job, model=model, owner=ocr_job.owner, after=ocr_job)
        except ApplicationError as error:
            # The reading itself has gone well.
            log.warning("not_corrected", job_id=str(ocr_job.pk), error=error.message)
