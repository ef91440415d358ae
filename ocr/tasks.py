"""The Celery task that reads one document."""

from __future__ import annotations

from mlops import jobs
from mlops.celery import app
from ocr import runner
from ocr.models import OcrJob


@app.task(name=OcrJob.KIND)
def extract_text(job_id: str) -> dict[str, str]:
    return {"job": job_id, "status": jobs.execute(OcrJob, job_id, runner.run)}
