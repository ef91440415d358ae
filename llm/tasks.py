"""The Celery tasks: answer one request, or those of a batch."""

from __future__ import annotations

from typing import Any

from celery import signals

from llm import extraction_run, runner, upkeep
from llm.batch import run as batch_run
from llm.correction import tasks as correction_tasks  # noqa: F401  (registers them)
from llm.models import ExtractionBatch, ExtractionJob, GenerationJob, LlmBatch
from llm.retrieval import tasks as retrieval_tasks  # noqa: F401  (registers them)
from mlops import jobs
from mlops.celery import app


# Thousands an hour: their rows say all that a result would.
@app.task(name=GenerationJob.KIND, ignore_result=True)
def generate(job_id: str) -> None:
    jobs.execute(GenerationJob, job_id, runner.run, related=["model__base"])


@app.task(name=LlmBatch.KIND, track_started=False)
def answer_batch(job_id: str) -> dict[str, str]:
    return {
        "job": job_id,
        "status": jobs.execute(LlmBatch, job_id, batch_run.run, related=["model__base"]),
    }


@app.task(name=ExtractionJob.KIND, track_started=False)
def extract_values(job_id: str) -> dict[str, str]:
    status = jobs.execute(ExtractionJob, job_id, extraction_run.run, related=["model__base"])
    return {"job": job_id, "status": status}


@app.task(name=ExtractionBatch.KIND, track_started=False)
def extract_batch(job_id: str) -> dict[str, str]:
    status = jobs.execute(ExtractionBatch, job_id, extraction_run.run_batch)
    return {"job": job_id, "status": status}


@signals.worker_shutdown.connect
def close_models(**_: Any) -> None:
    upkeep.models_close()
