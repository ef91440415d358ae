"""Versions in MLflow's registry: put there at once, or by maintenance once MLflow is back."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import structlog
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from finetune.models import ModelVersion, TrainingJob
from finetune.training.tracked import send
from mlops import tracking
from mlops.exceptions import ApplicationError
from mlops.stored_folders import folder_get
from mlops.tracking import NullTracker, TrackingUnavailable, tracker

log = structlog.get_logger(__name__)

BACK_OFF = timedelta(minutes=1)
OFF = "tracking is turned off (MLFLOW_TRACKING_URI)"
# Aliases as people use them in MLflow.
CHAMPION, CHALLENGER = "champion", "challenger"


def register(version: ModelVersion) -> None:
    """Uploads the files and makes the next version there. Raises TrackingUnavailable."""
    if isinstance(tracker(), NullTracker):
        ModelVersion.objects.filter(pk=version.pk).update(register_note=OFF)
        return
    run_id = version.mlflow_run_id or _run_of(version.job)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        folder_get(version.folder, folder)
        (folder / "MODEL_CARD.md").write_text(version.card, encoding="utf-8")
        number = tracking.register(
            folder, name=registered_name(version), run_id=run_id, tags=_tags(version)
        )
    version.registered_number, version.mlflow_run_id = number, run_id
    ModelVersion.objects.filter(pk=version.pk).update(
        registered_number=number, registered_at=Now(), register_note="", mlflow_run_id=run_id
    )
    log.info("version_registered", version=str(version), number=number)


def registered_name(version: ModelVersion) -> str:
    """The version's name in the form that MLflow takes: it knows neither slashes nor colons."""
    return version.name.replace("/", "-").replace(":", "-")


def _run_of(job: TrainingJob | None) -> str:
    """The job's run, begun here if MLflow was away all the time."""
    if job is None:
        raise TrackingUnavailable("the version's job has been deleted, and its run with it")
    job.refresh_from_db()
    if not job.mlflow_run_id:
        send(job)
        job.refresh_from_db()
    return job.mlflow_run_id


def _tags(version: ModelVersion) -> dict[str, str]:
    return {
        "version": str(version.pk),
        "form": version.form,
        "fitness": version.fitness,
        "dataset": str(version.facts.get("dataset", "")),
        "dataset_sha256": str(version.facts.get("dataset_sha256", "")),
        "base": str(version.facts.get("base", "")),
    }


def versions_register() -> None:
    """Registers the versions that MLflow was away for; a step of maintenance."""
    late = ModelVersion.objects.unregistered().exclude(register_note=OFF)
    # One that was made a moment ago is its job's own affair.
    for version in late.filter(created_at__lt=timezone.now() - BACK_OFF).select_related("job"):
        if not _claimed(version):
            continue
        try:
            register(version)
        except (TrackingUnavailable, ApplicationError) as error:
            _note(version, str(error))
            return


def _claimed(version: ModelVersion) -> bool:
    """Whether this process is the one to try: the note says until when nobody else does."""
    now = timezone.now()
    row = ModelVersion.objects.filter(pk=version.pk, registered_at=None)
    free = Q(register_after=None) | Q(register_after__lt=now)
    return bool(row.filter(free).update(register_after=now + BACK_OFF))


def _note(version: ModelVersion, reason: str) -> None:
    log.warning("version_not_registered", version=str(version), reason=reason)
    ModelVersion.objects.filter(pk=version.pk).update(register_note=reason[:2000])
