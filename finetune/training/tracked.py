"""MLflow beside a training: its run is begun with it and gets the curves while they grow.

A server that is away holds nothing up: points wait in their rows, and at the job's end, or later,
maintenance logs what is missing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import structlog
from django.db import DatabaseError, close_old_connections, connection

from finetune.models import TrainingJob
from finetune.run_records import training_record
from mlops.models import Job
from mlops.tracking import NullTracker, TrackingUnavailable, tracker

log = structlog.get_logger(__name__)

# Between two calls of the server, and after one that failed.
SECONDS, BACK_OFF = 3.0, 20.0


@contextlib.contextmanager
def following(job: TrainingJob) -> Iterator[None]:
    """Logs the job's points in a thread of its own for as long as the block runs."""
    if job.dry_run:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(job.pk, ended), name="mlflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=30)


def _follow(pk: object, ended: threading.Event) -> None:
    pause = 0.2
    while not ended.wait(pause):
        close_old_connections()
        try:
            sent = send(TrainingJob.objects.get(pk=pk))
        except (TrackingUnavailable, DatabaseError) as error:
            log.warning("curves_postponed", job_id=str(pk), error=str(error))
            pause = BACK_OFF
            continue
        pause = SECONDS if sent else BACK_OFF
    connection.close()


def send(job: TrainingJob) -> bool:
    """Logs what MLflow doesn't have yet; False where it is off. Raises TrackingUnavailable."""
    if isinstance(tracker(), NullTracker):
        return False
    last = job.metrics.order_by("-pk").values_list("pk", flat=True).first() or 0
    if job.mlflow_run_id and last <= job.metrics_logged:
        return True
    record = training_record(job, ended=False)
    rows = job.metrics.filter(pk__gt=job.metrics_logged).order_by("pk")
    newest = list(rows.values_list("pk", flat=True)[:2000])
    run = tracker().log(record)
    if run is not None:
        Job.objects.filter(pk=job.pk).update(mlflow_run_id=run.run_id, mlflow_run_url=run.url)
        if newest:
            TrainingJob.objects.filter(pk=job.pk).update(metrics_logged=newest[-1])
    return True
