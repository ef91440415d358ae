"""The Celery task of corrections; `llm.tasks` brings it to the workers."""

from __future__ import annotations

from llm.correction import running
from llm.models import TextFix
from mlops import jobs
from mlops.celery import app


@app.task(name=TextFix.KIND, track_started=False)
def correct_text(job_id: str) -> dict[str, str]:
    related = ["model__base", "ocr_job__document"]
    return {"job": job_id, "status": jobs.execute(TextFix, job_id, running.run, related=related)}
