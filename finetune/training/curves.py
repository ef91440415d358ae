"""The curves of a job as a file of OpenAI's Files API."""

from __future__ import annotations

import csv
import io

from finetune.models import TrainingJob
from llm.files import stored_file_create
from llm.models import StoredFile

# As OpenAI's results name them, and as ours.
COLUMNS = {
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "valid_loss": "eval_loss",
    "valid_mean_token_accuracy": "eval_accuracy",
}


def curves_file(job: TrainingJob) -> None:
    """Stores the points as CSV, once, with the purpose fine-tune-results."""
    if job.results_file:
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", *COLUMNS])
    for point in job.metrics.order_by("step"):
        writer.writerow([point.step, *(point.values.get(name, "") for name in COLUMNS.values())])
    file = stored_file_create(
        owner=job.owner,
        file=io.BytesIO(text.getvalue().encode()),
        purpose=StoredFile.Purpose.FINE_TUNE_RESULTS,
        filename="step_metrics.csv",
    )
    job.results_file = file.pk
    TrainingJob.objects.filter(pk=job.pk).update(results_file=file.pk)
