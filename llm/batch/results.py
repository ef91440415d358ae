"""What a batch came to, as files: the answers, and the requests that have none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.db import transaction

from llm.files import stored_file_delete, stored_file_write
from llm.models import BatchLine, LlmBatch, StoredFile

UNANSWERED = {
    "batch_expired": "This request was not answered before the batch's time was over.",
    "batch_cancelled": "This request was not answered before the batch was cancelled.",
}


def results_write(batch: LlmBatch, *, unanswered: str) -> None:
    """Writes the output and error files once; the lines have then done their part, and go.

    `unanswered` says why lines have no answer: batch_expired or batch_cancelled.
    """
    made = [
        _file(batch, _records(batch, BatchLine.State.DONE), "output"),
        _file(batch, _error_records(batch, unanswered), "error"),
    ]
    output, errors = made
    with transaction.atomic():
        # Another worker may have done it, if this one's lease was lost meanwhile.
        first = LlmBatch.objects.filter(pk=batch.pk, written=False).update(
            written=True, output_file=output, error_file=errors
        )
        if first:
            BatchLine.objects.filter(batch=batch).delete()
    if not first:
        for file in made:
            if file is not None:
                stored_file_delete(file=file)
    # Not all of it: the progress in hand is newer than the row's.
    batch.refresh_from_db(fields=["written", "output_file", "error_file"])


def _file(batch: LlmBatch, records: Iterator[dict[str, Any]], kind: str) -> StoredFile | None:
    return stored_file_write(
        owner=batch.owner,
        records=records,
        purpose=StoredFile.Purpose.BATCH_OUTPUT,
        filename=f"{batch.public_id}_{kind}.jsonl",
        expires_seconds=batch.output_expires_seconds,
    )


def _records(batch: LlmBatch, state: str) -> Iterator[dict[str, Any]]:
    lines = batch.lines.filter(state=state).order_by("number")
    for line in lines.iterator(chunk_size=200):
        yield record(
            line.custom_id,
            request_id=line.request_id.hex,
            status=line.status_code,
            body=json.loads(line.answer),
        )


def _error_records(batch: LlmBatch, unanswered: str) -> Iterator[dict[str, Any]]:
    yield from _records(batch, BatchLine.State.FAILED)
    waiting = batch.lines.filter(state=BatchLine.State.WAITING).order_by("number")
    for line in waiting.iterator(chunk_size=200):
        yield {
            "id": f"batch_req_{line.request_id.hex}",
            "custom_id": line.custom_id,
            "response": None,
            "error": {"code": unanswered, "message": UNANSWERED[unanswered]},
        }


def record(custom_id: str, *, request_id: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    """A line of an output file, as OpenAI has it."""
    return {
        "id": f"batch_req_{request_id}",
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": f"req_{request_id}", "body": body},
        "error": None,
    }
