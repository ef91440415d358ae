"""Writes of training jobs and of the versions that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from finetune.engines.configs import KINDS, config_of
from finetune.models import DatasetImport, DatasetVersion, ModelVersion, Sweep, TrainingJob
from llm.models import LanguageModel
from llm.models.language_models import MODEL_NAME
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import (
    job_cancel,
    job_enqueue,
    job_pause,
    job_resume,
    job_retry,
    webhook_url_check,
)
from ocr.job_rows import request_id, within

log = structlog.get_logger(__name__)


def training_job_submit(
    *,
    owner: User | None,
    name: str,
    method: str,
    dataset_version: DatasetVersion | None = None,
    dataset_import: DatasetImport | None = None,
    base: LanguageModel | None = None,
    validation_version: DatasetVersion | None = None,
    options: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    serve: bool = True,
    priority: int = 5,
    webhook_url: str = "",
    parent: Sweep | None = None,
    held: bool = False,
    **shown: Any,
) -> TrainingJob:
    """A job that trains `base` on the version's training rows; all that can be known is checked.

    `name` is that of the model which comes of it. Where an import is yet to make the version,
    `dataset_import` says which. `shown`: fields that the job keeps as they are (trial,
    trial_values, training_file, validation_file, validation_import, suffix, request, after).
    Raises ApplicationError.
    """
    config = config_of(method, options or {})
    name_check(name)
    name_free(owner, name)
    base_check(method, base)
    for version, param in ((dataset_version, "dataset"), (validation_version, "validation")):
        if version is not None:
            version_check(method, version, param)
    if config.resume_from:
        _checkpoint_check(owner, method, config.resume_from)
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    job = TrainingJob(
        kind=TrainingJob.KIND,
        queue=TrainingJob.QUEUE,
        max_attempts=settings.TRAINING_MAX_ATTEMPTS,
        owner=owner,
        name=name,
        method=method,
        base=base,
        base_name=base.name if base else "",
        dataset_version=dataset_version,
        dataset_import=dataset_import,
        dataset_label=str(dataset_version or dataset_import.dataset),
        validation_version=validation_version,
        options=config.as_options(),
        dry_run=dry_run,
        serve=serve,
        priority=priority,
        webhook_url=webhook_url,
        parent=parent,
        held=held,
        sent_at=None if held or shown.get("after") else Now(),
        request_id=request_id(),
        **shown,
    )
    with transaction.atomic():
        job.save(force_insert=True)
        if not held:
            job_enqueue(job=job)
    log.info("training_submitted", job_id=str(job.pk), method=method, base=job.base_name)
    return job


def training_job_cancel(*, job: TrainingJob) -> None:
    """A running one saves a checkpoint first. Raises NotAllowed if it has ended."""
    job_cancel(job=job)


def training_job_pause(*, job: TrainingJob) -> None:
    """It saves a checkpoint and gives its device back. Raises NotAllowed if it has ended."""
    job_pause(job=job)


def training_job_resume(*, job: TrainingJob) -> None:
    """Goes on from the last checkpoint. Raises NotAllowed unless it is paused."""
    job_resume(job=job)


def training_job_retry(*, job: TrainingJob) -> None:
    """A failed or cancelled job goes on from its last checkpoint. Raises NotAllowed for others.

    The imports that it waited for are tried again as well, if they have failed.
    """
    with transaction.atomic():
        for imported in (job.validation_import, job.dataset_import):
            if imported and imported.status in (Job.Status.FAILED, Job.Status.CANCELLED):
                job_retry(job=imported)
        job_retry(job=job)


def name_check(name: str) -> None:
    """Raises ApplicationError for what requests couldn't call a model."""
    try:
        MODEL_NAME(name)
        TrainingJob._meta.get_field("name").run_validators(name)
    except ValidationError as error:
        raise ApplicationError(
            f"name: {error.messages[0]}", code="invalid_name", param="name"
        ) from error


def name_free(owner: User | None, name: str) -> None:
    """Versions of one name follow each other: only who may change them adds to another's.

    Raises ApplicationError.
    """
    if owner is None or owner.has_perm("finetune.change_modelversion"):
        return
    if ModelVersion.objects.filter(name=name).exclude(owner=owner).exists():
        raise ApplicationError(
            f"There are versions of '{name}' that are another's. Choose another name.",
            code="name_taken",
            param="name",
        )


def base_check(method: str, base: LanguageModel | None) -> None:
    """Raises ApplicationError for a model that `method` can't begin with."""
    if method == TrainingJob.Method.OCR:
        if base is not None:
            raise ApplicationError(
                "A recogniser is trained from new weights, or from the checkpoint of another job "
                "('resume_from'); leave 'base' out.",
                code="base_not_wanted",
                param="base",
            )
        return
    if base is None:
        raise ApplicationError(
            f"Name the model to begin with ('base'): {method} trains one that there is.",
            code="missing_parameter",
            param="base",
        )
    if base.base_id is not None:
        raise ApplicationError(
            f"'{base.name}' is an adapter. Train on its base, '{base.base}', or on a version of "
            "it that has been merged.",
            code="base_is_adapter",
            param="base",
        )
    if base.engine != "transformers" or base.task != LanguageModel.Task.GENERATE:
        raise ApplicationError(
            f"'{base.name}' isn't run by transformers here, or writes no text: its weights can't "
            "be trained.",
            code="base_not_trainable",
            param="base",
        )


def version_check(method: str, version: DatasetVersion, param: str) -> None:
    """Raises ApplicationError for rows that `method` can't learn from."""
    if not version.ready:
        raise ApplicationError(
            f"{version} has rows with errors: see its report. Mend them and import it again, or "
            "choose to leave the bad rows out (drop_bad_rows).",
            code="dataset_has_errors",
            param=param,
        )
    kinds = KINDS[method]
    if version.dataset.kind not in kinds:
        raise ApplicationError(
            f"{version} holds {version.dataset.get_kind_display()}; {method} learns from "
            f"{' or '.join(str(dict(version.dataset.Kind.choices)[kind]) for kind in kinds)}.",
            code="wrong_kind",
            param=param,
        )


def _checkpoint_check(owner: User | None, method: str, pk: str) -> None:
    jobs = TrainingJob.objects.all() if owner is None else TrainingJob.objects.visible_to(owner)
    try:
        found = jobs.filter(pk=pk, method=method, checkpoints__removed=False).exists()
    except ValidationError:
        found = False
    if not found:
        raise ApplicationError(
            f"resume_from: there is no {method} job '{pk}' with a checkpoint.",
            code="no_checkpoint",
            param="resume_from",
        )
