"""What the tests of training share: jobs on tests/fake_trainer.py, run by threads as by workers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from django.db import connection

from finetune.models import DatasetVersion, TrainingJob
from finetune.services.training import training_job_submit
from finetune.tasks import train
from llm.models import LanguageModel
from mlops.models import User
from tests.services import wait_for


def order(steps: int = 20, **more: Any) -> list[dict[str, str]]:
    """Rows of plain text whose first in the training split tells the fake trainer what to do."""
    text = json.dumps({"steps": steps, **more})
    # All rows alike in meaning: whichever comes first tells the same.
    return [{"text": text[:-1] + f', "n": {n}}}'} for n in range(30)]


def base_model(name: str = "base") -> LanguageModel:
    return LanguageModel.objects.get_or_create(name=name, source="somewhere")[0]


def submit(version: DatasetVersion, owner: User | None = None, **given: Any) -> TrainingJob:
    values: dict[str, Any] = {"name": "reader", "method": "cpt", "base": base_model()}
    owner = owner or version.dataset.owner
    return training_job_submit(owner=owner, dataset_version=version, **values | given)


def do(job: TrainingJob) -> TrainingJob:
    """Runs the job as a worker does; the row as it is then."""
    train(str(job.pk))
    return TrainingJob.objects.get(pk=job.pk)


def working(job: TrainingJob) -> threading.Thread:
    """The same in a thread of its own."""

    def work() -> None:
        try:
            train(str(job.pk))
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(look: Callable[[], bool], seconds: float = 60) -> None:
    assert wait_for(look, seconds)


def fresh(job: TrainingJob) -> TrainingJob:
    return TrainingJob.objects.get(pk=job.pk)
