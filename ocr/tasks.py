"""The Celery tasks: read one document, help with one, make the jobs of a batch."""

from __future__ import annotations

from mlops import jobs
from mlops.celery import app
from ocr import batch_run, runner
from ocr.models import OcrBatch, OcrJob
from ocr.spread import HELP_TASK


# The jobs' rows say that they have started; a result row too would cost each job milliseconds.
@app.task(name=OcrJob.KIND, track_started=False)
def extract_text(job_id: str) -> dict[str, str]:
    status = jobs.execute(OcrJob, job_id, runner.run, related=["document"])
    return {"job": job_id, "status": status}


@app.task(name=HELP_TASK, ignore_result=True)
def help_pages(job_id: str) -> None:
    runner.help_pages(job_id)


@app.task(name=OcrBatch.KIND, track_started=False)
def read_batch(job_id: str) -> dict[str, str]:
    return {"job": job_id, "status": jobs.execute(OcrBatch, job_id, batch_run.run)}
