"""The Celery tasks: take in one dataset, train, evaluate or merge one model."""

from __future__ import annotations

from functools import partial

from finetune import dataset_import, merging
from finetune.evaluation import run as evaluation_run
from finetune.models import (
    DatasetImport,
    Evaluation,
    Sweep,
    TrainingJob,
    TrainingJoin,
    VersionMerge,
)
from finetune.sweeps import run as sweep_run
from finetune.sweeps.advance import advance
from finetune.training import devices
from finetune.training import run as training_run
from finetune.training.join import join
from finetune.training.machines import joins_clear
from finetune.training.turns import joins, turns
from mlops import jobs
from mlops.celery import app

SKIPPED = "skipped"


# The jobs' rows say that they have started; a result row too would cost each job milliseconds.
@app.task(name=DatasetImport.KIND, track_started=False)
def import_dataset(job_id: str) -> dict[str, str]:
    status = jobs.execute(DatasetImport, job_id, dataset_import.run, related=["dataset", "owner"])
    return {"job": job_id, "status": status}


@app.task(name=TrainingJob.KIND, track_started=False)
def train(job_id: str) -> dict[str, str]:
    """Does what comes next: a message says only that there is one job more to do.

    Trainings that lack machines come first: those that they have stand idle.
    """
    joined = joins_next()
    if joined is not None:
        return joined
    for job in turns():
        status = train_job(str(job.pk))
        if status != SKIPPED:
            if job.parent_id is not None:
                advance(job.parent_id)
            return {"job": str(job.pk), "status": status}
    return {"job": job_id, "status": SKIPPED}


@app.task(name=TrainingJoin.KIND, track_started=False)
def take_part(job_id: str) -> dict[str, str]:
    """As `train`: what was asked for may be another's by now."""
    return train(job_id)


def joins_next() -> dict[str, str] | None:
    """Takes part in a training that lacks machines; None where this one can't help any.

    Devices are held first: one who waits for those of the first machine itself would be no help.
    """
    joins_clear()
    for row in joins():
        options = row.parent.trainingjob.options
        with devices.held_now(options["device"], options["processes"]) as held:
            if held is None:
                continue
            run = partial(join, held=held)
            status = jobs.execute(TrainingJoin, row.pk, run)
            if status != SKIPPED:
                return {"job": str(row.pk), "status": status}
    return None


def train_job(job_id: str) -> str:
    """Runs this one job, whoever's turn it is; its status then."""
    return jobs.execute(
        TrainingJob,
        job_id,
        training_run.run,
        related=["owner", "base", "dataset_version", "validation_version", "parent"],
    )


@app.task(name=Evaluation.KIND, track_started=False)
def evaluate(job_id: str) -> dict[str, str]:
    status = jobs.execute(
        Evaluation, job_id, evaluation_run.run, related=["owner", "dataset_version__dataset"]
    )
    return {"job": job_id, "status": status}


@app.task(name=Sweep.KIND, track_started=False)
def sweep(job_id: str) -> dict[str, str]:
    status = jobs.execute(
        Sweep, job_id, sweep_run.run, related=["owner", "base", "dataset_version"]
    )
    return {"job": job_id, "status": status}


@app.task(name=VersionMerge.KIND, track_started=False)
def merge(job_id: str) -> dict[str, str]:
    related = ["owner", "version__base", "version__job", "version__dataset_version", "result"]
    status = jobs.execute(VersionMerge, job_id, merging.run, related=related)
    return {"job": job_id, "status": status}
