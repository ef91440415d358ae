"""The Celery tasks: take a dataset in."""

from __future__ import annotations

from finetune import dataset_import
from finetune.models import DatasetImport
from mlops import jobs
from mlops.celery import app


@app.task(name=DatasetImport.KIND, track_started=False)
def import_dataset(job_id: str) -> dict[str, str]:
    status = jobs.execute(DatasetImport, job_id, dataset_import.run, related=["dataset", "owner"])
    return {"job": job_id, "status": status}
