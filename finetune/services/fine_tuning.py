"""Training jobs as OpenAI's API starts them: from files, each of which is imported first."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from finetune.engines.configs import config_of
from finetune.models import DatasetImport, TrainingEvent, TrainingJob
from finetune.services.datasets import dataset_import
from finetune.services.training import base_check, training_job_submit
from llm.models import LanguageModel, StoredFile
from mlops.exceptions import ApplicationError
from mlops.models import Job, User

# What a model's name is made of; with a checkpoint's step the whole fits into its field.
LONGEST_BASE, LONGEST_OWNER, LONGEST_SUFFIX = 70, 30, 64
UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]+")


def fine_tuning_job_create(
    *,
    owner: User,
    base: LanguageModel,
    method: str,
    training_file: StoredFile,
    validation_file: StoredFile | None = None,
    options: Mapping[str, Any] | None = None,
    suffix: str = "",
    request: Mapping[str, Any] | None = None,
) -> TrainingJob:
    """A job that waits for its files' imports, which fail it if they can't be learned from.

    A file that is a dataset already isn't imported again. Raises ApplicationError.
    """
    for file, param in ((training_file, "training_file"), (validation_file, "validation_file")):
        if file is not None and file.purpose != StoredFile.Purpose.FINE_TUNE:
            raise ApplicationError(
                f"{param}: a file with the purpose fine-tune; this one's is {file.purpose}.",
                code="invalid_value",
                param=param,
            )
    # Before files are copied, which no rollback takes back.
    base_check(method, base)
    config_of(method, options or {})
    with transaction.atomic():
        after = validation = None
        if validation_file is not None:
            validation = _imported(owner, validation_file, method, None)
            after = None if validation.finished else validation
        imported = _imported(owner, training_file, method, after)
        after = after if imported.finished else imported
        job = training_job_submit(
            owner=owner,
            name=model_name(base.name, owner, suffix),
            method=method,
            base=base,
            dataset_import=imported,
            validation_import=validation,
            options=options,
            training_file=training_file.pk,
            validation_file=validation_file.pk if validation_file else "",
            suffix=suffix,
            request=dict(request or {}),
            after=after,
        )
        told = [f"Created fine-tuning job: {job.openai_id}"]
        told += [f"Validating training file: {training_file.pk}"]
        if validation_file is not None:
            told += [f"Validating validation file: {validation_file.pk}"]
        if after is None:
            told += ["Files validated, moving job to queued state."]
        for message in told:
            TrainingEvent.objects.create(job=job, message=message)
    return job


def model_name(base: str, owner: User, suffix: str) -> str:
    """`ft:base:owner:suffix:id`, as OpenAI names them."""
    parts = (
        base[:LONGEST_BASE],
        UNNAMEABLE.sub("-", owner.username)[:LONGEST_OWNER],
        UNNAMEABLE.sub("-", suffix)[:LONGEST_SUFFIX].strip("-"),
        uuid.uuid4().hex[:8],
    )
    return "ft:" + ":".join(parts)


def _imported(owner: User, file: StoredFile, method: str, after: Job | None) -> DatasetImport:
    """The import of the whole file to train on: an earlier one, or a new one after `after`."""
    name = f"{file.filename[:150]} ({file.pk})"
    earlier = DatasetImport.objects.filter(
        dataset__owner=owner,
        dataset__name=name,
        status=Job.Status.SUCCEEDED,
        options__method=method,
    ).exclude(version=None)
    found = earlier.order_by("-created_at").first()
    return found or dataset_import(
        owner=owner, name=name, stored=file, validation=0, test=0, method=method, after=after
    )
