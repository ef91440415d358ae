"""What a batch does: judge every line, answer those that have no answer, write the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from llm import held
from llm.ask import adapter_of
from llm.batch.calls import Call, call_of
from llm.batch.check import Check, Expired
from llm.batch.judging import judge
from llm.batch.lines import parse_line, read_line
from llm.batch.results import results_write
from llm.batch.window import Outcome, Window
from llm.files import local_copy
from llm.models import BatchLine, LlmBatch, StoredFile
from llm.usage import usage_add
from mlops.exceptions import JobCancelled, JobFailed
from mlops.jobs import JobContext

# As many rows are looked up together.
AT_ONCE = 500


def run(batch: LlmBatch, context: JobContext) -> None:
    """Raises JobFailed if a line can't be run, and then none is, or if the time is over.

    Whatever ends a batch that has begun, its answers are written first.
    """
    if not batch.written:
        unanswered = _work(batch, context)
        if batch.in_progress_at is None:
            batch.lines.all().delete()
        LlmBatch.objects.filter(pk=batch.pk, finalizing_at=None).update(finalizing_at=Now())
        context.progress(batch.completed + batch.failed, batch.total)
        results_write(batch, unanswered=unanswered)
    batch.refresh_from_db(fields=["cancelling_at", "cancel_requested"])
    if batch.cancelling_at or batch.cancel_requested:
        raise JobCancelled
    if batch.in_progress_at is None:
        raise JobFailed("Time was over before the batch was begun.", code="batch_expired")
    left = batch.total - batch.completed - batch.failed
    if left:
        raise JobFailed(
            f"Time was over before {left} of {batch.total} requests were answered. The answers of "
            "the others are in the output file.",
            code="batch_expired",
        )


def _work(batch: LlmBatch, context: JobContext) -> str:
    """Answers what it can; why the rest has no answer, if there is a rest."""
    try:
        with local_copy(_input(batch)) as path:
            if batch.in_progress_at is None:
                judge(batch, path, Check(batch, context))
            _answer(batch, path, context)
    except JobCancelled:
        return "batch_cancelled"
    except Expired:
        return "batch_expired"
    return ""


def _input(batch: LlmBatch) -> StoredFile:
    file = StoredFile.objects.filter(pk=batch.input_file_id).first()
    if file is None:
        raise JobFailed(
            "The input file has been deleted. Upload it again, and make a new batch.",
            code="file_missing",
        )
    return file


def _answer(batch: LlmBatch, path: Path, context: JobContext) -> None:
    check = Check(batch, context)
    check()
    if batch.model is None:
        raise JobFailed(
            f"The model '{batch.asked_model}' has been deleted.", code="model_not_found"
        )
    if not batch.lines.filter(state=BatchLine.State.WAITING).exists():
        return
    window = Window(
        held.get(batch.model),
        adapter=adapter_of(batch.model),
        size=settings.LLM_BATCH_WINDOW,
        pause=settings.LLM_BATCH_RETRY_SECONDS,
    )
    for outcomes in window.answers(_calls(batch, path)):
        # First, so that what failed because this worker stops is not taken for an answer.
        check()
        if outcomes:
            _store(batch, outcomes)
            context.progress(batch.completed + batch.failed, batch.total)


def _calls(batch: LlmBatch, path: Path) -> Iterator[Call]:
    """The requests of the lines without an answer, a few at a time."""
    after = 0
    while True:
        lines = batch.lines.filter(state=BatchLine.State.WAITING, number__gt=after)
        chunk = list(lines.order_by("number")[:AT_ONCE])
        if not chunk:
            return
        for line in chunk:
            raw = read_line(path, offset=line.offset, length=line.length)
            _custom_id, body = parse_line(raw, endpoint=batch.endpoint)
            yield call_of(line.number, batch.endpoint, body)
        after = chunk[-1].number


def _store(batch: LlmBatch, outcomes: list[Outcome]) -> None:
    """Writes answers; a line that has one already keeps it."""
    with transaction.atomic():
        kept = [outcome for outcome in outcomes if _store_line(batch, outcome)]
        if not kept:
            return
        LlmBatch.objects.filter(pk=batch.pk).update(
            completed=F("completed") + sum(outcome.ok for outcome in kept),
            failed=F("failed") + sum(not outcome.ok for outcome in kept),
            prompt_tokens=F("prompt_tokens") + sum(one.usage.prompt for one in kept),
            cached_tokens=F("cached_tokens") + sum(one.usage.cached for one in kept),
            completion_tokens=F("completion_tokens") + sum(one.usage.completion for one in kept),
        )
        usage_add(
            owner=batch.owner_id,
            api_key=batch.api_key_id,
            model=batch.model_id,
            prompt_tokens=sum(one.usage.prompt for one in kept),
            completion_tokens=sum(one.usage.completion for one in kept),
            requests=len(kept),
        )
    fresh = LlmBatch.objects.filter(pk=batch.pk).values("completed", "failed").get()
    batch.completed, batch.failed = fresh["completed"], fresh["failed"]


def _store_line(batch: LlmBatch, outcome: Outcome) -> bool:
    return bool(
        BatchLine.objects.filter(
            batch=batch, number=outcome.key, state=BatchLine.State.WAITING
        ).update(
            state=BatchLine.State.DONE if outcome.ok else BatchLine.State.FAILED,
            status_code=outcome.status,
            answer=json.dumps(outcome.body, ensure_ascii=False),
        )
    )
