"""Deletes of ended jobs, with what belongs to them alone. Versions that came of them stay."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from django.db import transaction
from django.db.models import QuerySet

from finetune.models import (
    Evaluation,
    ModelVersion,
    Sweep,
    TrainingJob,
    TrainingJoin,
    VersionMerge,
)
from finetune.training import registry
from llm.models import LanguageModel
from llm.services.models import model_delete
from mlops.exceptions import NotAllowed
from mlops.models import Job
from mlops.stored_folders import folder_delete

log = structlog.get_logger(__name__)


def training_job_delete(*, job: TrainingJob) -> None:
    """Deletes the job with its curves, events and checkpoints, and the names these are called by.

    What a version was made of and how stands in its own facts and card. Raises NotAllowed.
    """
    with transaction.atomic():
        training_job_deletable(job)
        _training_delete(job)


def evaluation_delete(*, evaluation: Evaluation) -> None:
    """Deletes the evaluation with its answers and figures. Raises NotAllowed."""
    with transaction.atomic():
        ended_check(evaluation)
        _delete(evaluation)


def merge_delete(*, merge: VersionMerge) -> None:
    """Deletes the job alone: what came of it stays. Raises NotAllowed."""
    with transaction.atomic():
        ended_check(merge)
        _delete(merge)


def sweep_delete(*, sweep: Sweep) -> None:
    """Deletes the sweep with its trials, all or none of them. Raises NotAllowed."""
    with transaction.atomic():
        sweep_deletable(sweep)
        for job in sweep.tried():
            _training_delete(job)
        _delete(sweep)


# -- what stands in the way ---------------------------------------------------------------------


def ended_check(job: Job) -> None:
    """Raises NotAllowed for one that waits or runs. Locks its row until the transaction ends."""
    row = Job.objects.select_for_update().filter(pk=job.pk).first()
    if row is not None and not row.finished:
        raise NotAllowed(
            f"'{job}' hasn't ended ({row.status}). Cancel it, or wait for its end.",
            code="job_not_ended",
        )


def training_job_deletable(job: TrainingJob) -> None:
    """Raises NotAllowed, saying what stands in the way. To be called in a transaction."""
    ended_check(job)
    if job.parent_id is not None and Job.objects.unfinished().filter(pk=job.parent_id).exists():
        raise NotAllowed(
            f"'{job}' is a trial of a sweep that is under way. Cancel the sweep, or wait for its "
            "end.",
            code="sweep_not_ended",
        )
    _needed_check([job])


def sweep_deletable(sweep: Sweep) -> None:
    """Raises NotAllowed, saying what stands in the way. To be called in a transaction."""
    ended_check(sweep)
    trials = list(sweep.tried())
    for job in trials:
        ended_check(job)
    _needed_check(trials)


def _needed_check(jobs: Sequence[TrainingJob]) -> None:
    names = {str(job.pk): str(job) for job in jobs}
    beginning = TrainingJob.objects.unfinished().filter(options__resume_from__in=list(names))
    for other in beginning.exclude(pk__in=list(names)):
        raise NotAllowed(
            f"'{other}' is about to begin with a checkpoint of "
            f"'{names[other.options['resume_from']]}'. Wait for its end, or cancel it.",
            code="checkpoint_in_use",
        )
    for version in _to_register(jobs):
        raise NotAllowed(
            f"{version} isn't registered with MLflow yet, and its run is the job's. It is done "
            "once MLflow can be reached.",
            code="not_registered",
        )


def _to_register(jobs: Sequence[TrainingJob]) -> QuerySet[ModelVersion]:
    """Versions that could not be registered any more without their job."""
    late = ModelVersion.objects.unregistered().exclude(register_note=registry.OFF)
    return late.filter(job__in=jobs, mlflow_run_id="", job__mlflow_run_id="")


# -- rows and files -----------------------------------------------------------------------------


def _training_delete(job: TrainingJob) -> None:
    folders = [one.folder for one in job.checkpoints.filter(removed=False)]
    for model in LanguageModel.objects.filter(source__startswith=f"stored:{job.folder}/"):
        model_delete(model=model)
    if job.mlflow_run_id:
        job.versions.filter(mlflow_run_id="").update(mlflow_run_id=job.mlflow_run_id)
    TrainingJoin.objects.filter(parent=job.pk).delete()
    _delete(job)
    transaction.on_commit(lambda: [folder_delete(folder) for folder in folders])


def _delete(job: Job) -> None:
    log.info("job_deleted", job_id=str(job.pk), kind=job.kind)
    job.delete()
