"""What a sweep itself does: makes a row for each of its trials; then it waits for them."""

from __future__ import annotations

import structlog
from django.conf import settings

from finetune.models import Sweep, TrainingJob
from finetune.run_records import sweep_record
from finetune.sweeps.advance import advance
from mlops.exceptions import JobFailed, JobWaits
from mlops.jobs import JobContext
from mlops.models import Job
from mlops.tracking import NullTracker, TrackingUnavailable, tracker

log = structlog.get_logger(__name__)


def run(sweep: Sweep, context: JobContext) -> None:
    """Makes the trials that are not there yet. Raises JobWaits: the sweep ends with the last."""
    if sweep.dataset_version is None:
        raise JobFailed(
            f"The dataset ({sweep.dataset_label}) has been deleted since the sweep was made.",
            code="dataset_deleted",
        )
    _begin_run(sweep)
    known = set(sweep.tried().values_list("trial", flat=True))
    for number in range(1, sweep.trials + 1):
        if number in known:
            continue
        context.check()
        _trial(sweep, number).save(force_insert=True)
    advance(sweep.pk)
    raise JobWaits


def _trial(sweep: Sweep, number: int) -> TrainingJob:
    """Held back until its turn comes, and its values with it; what it takes was checked before."""
    return TrainingJob(
        kind=TrainingJob.KIND,
        queue=TrainingJob.QUEUE,
        max_attempts=settings.TRAINING_MAX_ATTEMPTS,
        owner=sweep.owner,
        name=sweep.name,
        method=sweep.method,
        base=sweep.base,
        base_name=sweep.base.name if sweep.base else "",
        dataset_version=sweep.dataset_version,
        dataset_label=sweep.dataset_label,
        options=sweep.options,
        # Of all that come of it, the best one alone is to be called.
        serve=False,
        priority=sweep.priority,
        parent=sweep,
        trial=number,
        held=True,
        request_id=sweep.request_id,
    )


def _begin_run(sweep: Sweep) -> None:
    """The run that the trials' runs stand under. MLflow may be away: then they stand alone."""
    if sweep.mlflow_run_id:
        return
    try:
        if isinstance(tracker(), NullTracker):
            return
        run = tracker().log(sweep_record(sweep))
    except TrackingUnavailable as error:
        log.warning("sweep_without_run", sweep=str(sweep.pk), error=str(error))
        return
    if run is not None:
        sweep.mlflow_run_id, sweep.mlflow_run_url = run.run_id, run.url
        Job.objects.filter(pk=sweep.pk).update(mlflow_run_id=run.run_id, mlflow_run_url=run.url)
