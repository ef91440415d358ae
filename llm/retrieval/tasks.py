"""The Celery tasks of retrieval; `llm.tasks` brings them to the workers."""

from __future__ import annotations

from llm.models import IndexJob, SearchJob
from llm.retrieval import indexing, meaning
from mlops import jobs
from mlops.celery import app


@app.task(name=IndexJob.KIND, track_started=False)
def index_documents(job_id: str) -> dict[str, str]:
    return {"job": job_id, "status": jobs.execute(IndexJob, job_id, indexing.run)}


# A row of results for each search would say no more than its job's.
@app.task(name=SearchJob.KIND, ignore_result=True)
def search(job_id: str) -> None:
    jobs.execute(SearchJob, job_id, meaning.run, related=["owner", "model"])
