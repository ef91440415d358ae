"""Files of OpenAI's API as datasets: what a training job makes of the import that it waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db.models import Q

from finetune.engines.configs import KINDS
from finetune.models import Dataset, DatasetImport, DatasetVersion, TrainingEvent, TrainingJob
from mlops.exceptions import ApplicationError, JobFailed

INVALID = "invalid_training_file"
# As many kinds of problems as a message names.
NAMED = 3


def version_check(version: DatasetVersion, method: str) -> None:
    """Raises JobFailed for rows that `method` can't learn from, with the first that is wrong."""
    if not version.ready:
        raise JobFailed(_problems(version), code=INVALID)
    if version.dataset.kind not in KINDS[method]:
        wanted = " or ".join(Dataset.Kind(kind).label for kind in KINDS[method])
        raise JobFailed(
            f"The file holds {version.dataset.get_kind_display()}; {method} learns from {wanted}.",
            code=INVALID,
        )


def _problems(version: DatasetVersion) -> str:
    report = version.report
    found = [one for one in report["problems"] if one["severity"] == "error"]
    if not found:
        return "The file has no row to train on."
    parts = []
    for problem in found[:NAMED]:
        first = problem["examples"][0] if problem["examples"] else {}
        where = f"line {first['line']}: " if first.get("line") else ""
        parts.append(f"{where}{first.get('message') or problem['title']} ({problem['mend']})")
    more = len(found) - NAMED
    return (
        f"{version.rows_bad:,} of {report['rows_read']:,} rows have errors. {' '.join(parts)}"
        + (f" And {more} more kinds of errors." if more > 0 else "")
    )


@contextmanager
def waiters_told(job: DatasetImport) -> Iterator[None]:
    """The training jobs that wait for this import hear how it has ended."""
    try:
        yield
    except (ApplicationError, JobFailed) as error:
        _tell(job, TrainingEvent.Level.ERROR, error.message)
        raise
    _tell(job, TrainingEvent.Level.INFO, "Files validated, moving job to queued state.")


def _tell(job: DatasetImport, level: str, message: str) -> None:
    waiting = TrainingJob.objects.filter(
        Q(dataset_import=job) | Q(validation_import=job), status=TrainingJob.Status.QUEUED
    )
    TrainingEvent.objects.bulk_create(
        TrainingEvent(job=one, level=level, message=message)
        # Of two files the training file is the one that is read last.
        for one in waiting
        if level == TrainingEvent.Level.ERROR or one.dataset_import_id == job.pk
    )


def versions_resolve(job: TrainingJob) -> None:
    """Gives the job the versions that its imports have made. Raises JobFailed if one is gone."""
    found: dict[str, object] = {}
    if job.dataset_version is None and job.dataset_import is not None:
        version = _version(job.dataset_import, job.method)
        found |= {"dataset_version": version, "dataset_label": str(version)}
    if job.validation_version is None and job.validation_import is not None:
        found |= {"validation_version": _version(job.validation_import, job.method)}
    if found:
        for name, value in found.items():
            setattr(job, name, value)
        TrainingJob.objects.filter(pk=job.pk).update(**found)


def _version(imported: DatasetImport, method: str) -> DatasetVersion:
    if imported.version is None:
        raise JobFailed(
            f"What was imported from {imported.source} has been deleted since. Start a new job.",
            code="dataset_deleted",
        )
    version_check(imported.version, method)
    return imported.version
