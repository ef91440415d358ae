"""The core's own Celery tasks."""

from __future__ import annotations

from typing import Any

from mlops import maintenance, reconcile
from mlops.celery import app


@app.task(name="mlops.jobs_maintain", ignore_result=True)
def jobs_maintain() -> None:
    """The periodic round by the scheduler; workers also do it by themselves."""
    maintenance.round_once()


@app.task(name="mlops.pulse", ignore_result=True, bind=True)
def pulse(self: Any, queue: str) -> None:
    reconcile.pulse_record(queue=queue, worker=self.request.hostname or "")
