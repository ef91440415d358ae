"""Writes of batches: many requests as one job."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from llm.batch.lines import odd
from llm.models import LanguageModel, LlmBatch, StoredFile
from llm.models.language_models import MODEL_NAME
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import ApiKey, Job, User
from mlops.services import job_cancel, job_enqueue, job_retry
from ocr.job_rows import request_id

WINDOW = "24h"
WINDOW_TIME = timedelta(hours=24)
MOST_PAIRS, MOST_KEY, MOST_VALUE = 16, 64, 512
# After requests that somebody waits for.
PRIORITY = 6


def llm_batch_submit(
    *,
    owner: User,
    input_file: StoredFile,
    endpoint: str,
    completion_window: str = WINDOW,
    metadata: dict[str, Any] | None = None,
    output_expires_seconds: int | None = None,
    api_key: ApiKey | None = None,
) -> LlmBatch:
    """A batch over the requests of a file, which a worker validates. Raises ApplicationError.

    It goes to the queue of the model that the file's first line names.
    """
    if endpoint not in LlmBatch.Endpoint.values:
        raise _invalid("endpoint", f"one of {', '.join(LlmBatch.Endpoint.values)}")
    if completion_window != WINDOW:
        raise _invalid("completion_window", WINDOW)
    if input_file.purpose != StoredFile.Purpose.BATCH:
        raise _invalid(
            "input_file_id", f"a file with the purpose batch; this one's is {input_file.purpose}"
        )
    _check_metadata(metadata)
    asked = _first_model(input_file)
    model = LanguageModel.objects.filter(name=asked).first()
    with transaction.atomic():
        batch = LlmBatch.objects.create(
            kind=LlmBatch.KIND,
            queue=model.root.queue if model else LlmBatch.QUEUE,
            max_attempts=settings.JOB_MAX_ATTEMPTS,
            priority=PRIORITY,
            owner=owner,
            api_key=api_key,
            endpoint=endpoint,
            input_file=input_file,
            completion_window=completion_window,
            output_expires_seconds=output_expires_seconds,
            metadata=metadata,
            asked_model=asked[:200],
            expires_at=timezone.now() + WINDOW_TIME,
            sent_at=Now(),
            request_id=request_id(),
        )
        job_enqueue(job=batch)
    return batch


def llm_batch_cancel(*, batch: LlmBatch) -> None:
    """Stops the batch; what is answered is kept and written. Raises NotAllowed if it has ended.

    One that has begun is ended by the worker that has it, or by the next one that takes it up.
    """
    if batch.status == Job.Status.QUEUED and not batch.attempts:
        job_cancel(job=batch)
        return
    asked = LlmBatch.objects.filter(
        pk=batch.pk, status__in=[Job.Status.QUEUED, Job.Status.RUNNING]
    ).update(cancelling_at=Now())
    batch.refresh_from_db()
    if not asked:
        raise NotAllowed(f"The batch has already ended ({batch.state}); nothing to cancel.")


def llm_batch_retry(*, batch: LlmBatch) -> None:
    """Goes on with a batch that ended before its results were written. Raises NotAllowed."""
    if batch.written or batch.line_errors:
        raise NotAllowed(
            "This batch has come to its end, and a file can't change. Make a new batch with the "
            "requests that are missing."
        )
    with transaction.atomic():
        LlmBatch.objects.filter(pk=batch.pk).update(
            cancelling_at=None, expires_at=timezone.now() + WINDOW_TIME
        )
        job_retry(job=batch)


def _first_model(file: StoredFile) -> str:
    """The model that the first line names; "" if it isn't a request, which validation then says."""
    try:
        with file.file.storage.open(file.file.name) as opened:
            line = opened.readline(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        model = json.loads(line)["body"]["model"]
    except (ValueError, KeyError, TypeError):
        return ""
    except FileNotFoundError as error:
        raise ApplicationError(
            f"The content of {file.pk} is gone from the storage. Upload it again.",
            code="file_missing",
            param="input_file_id",
        ) from error
    return model if isinstance(model, str) and MODEL_NAME.regex.match(model) else ""


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if (
        not isinstance(metadata, dict)
        or len(metadata) > MOST_PAIRS
        or any(len(key) > MOST_KEY for key in metadata)
        or not all(isinstance(one, str) and len(one) <= MOST_VALUE for one in metadata.values())
        or any(odd(text) for pair in metadata.items() for text in pair)
    ):
        raise _invalid(
            "metadata",
            f"at most {MOST_PAIRS} pairs of texts, with keys of {MOST_KEY} and values of "
            f"{MOST_VALUE} characters at most",
        )


def _invalid(param: str, what: str) -> ApplicationError:
    return ApplicationError(f"{param}: {what}.", code="invalid_value", param=param)
