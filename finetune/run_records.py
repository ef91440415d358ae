"""What MLflow is told of training, evaluations and sweeps; of training also while it runs."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mlops.tracking import Point, RunRecord

if TYPE_CHECKING:
    from finetune.models import Evaluation, Sweep, TrainingJob

# Characters that MLflow refuses in names; a figure of extractions holds a field's.
NOT_TAKEN = re.compile(r"[^\w./ -]", re.ASCII)
EXPERIMENT = "finetune"
# Points that one call sends while the job runs.
MOST_POINTS = 2000


def training_record(job: TrainingJob, *, ended: bool = True) -> RunRecord:
    """The run of a job: what MLflow doesn't have yet of its curves, and how it stands."""
    rows = job.metrics.filter(pk__gt=job.metrics_logged).order_by("pk")
    if not ended:
        rows = rows[:MOST_POINTS]
    points = [
        Point(name, float(value), row.step, row.at.timestamp())
        for row in rows
        for name, value in row.values.items()
        if math.isfinite(value)
    ]
    parent = job.parent.mlflow_run_id if job.parent else ""
    params = {f"option.{name}": value for name, value in job.options.items()}
    params |= {f"found.{name}": value for name, value in job.settings_found.items()}
    # Parameters of a run can't be changed: what is found out later is logged at the end.
    return RunRecord(
        name=job.name,
        experiment=EXPERIMENT,
        run_id=job.mlflow_run_id,
        parent_id=parent,
        ended=ended,
        succeeded=job.status == job.Status.SUCCEEDED,
        cancelled=job.status == job.Status.CANCELLED,
        started=job.started_at.timestamp() if job.started_at else None,
        finished=job.finished_at.timestamp() if job.finished_at else None,
        points=points,
        params=params if ended else {},
        metrics={"total_seconds": job.seconds} if ended and job.seconds else {},
        tags={
            "job": str(job.pk),
            "method": job.method,
            "base": job.base_name,
            "dataset": job.dataset_label,
            "dataset_version": str(job.dataset_version_id or ""),
            "owner": str(job.owner or ""),
            "status": job.status,
            "device": job.device,
        },
        artifacts=_artifacts(job) if ended else {},
    )


def _artifacts(job: TrainingJob) -> dict[str, str]:
    lines = [
        f"{event.created_at:%Y-%m-%d %H:%M:%S} {event.level}: {event.message}"
        for event in job.events.order_by("pk")
    ]
    found = {"events.txt": "\n".join(lines)} if lines else {}
    for version in job.versions.all():
        found["MODEL_CARD.md"] = version.card
    return found


def evaluation_record(evaluation: Evaluation) -> RunRecord:
    """One run an evaluation: each side's figures under its own name."""
    figures = evaluation.result.get("sides", [])
    metrics = {
        f"side{number}.{NOT_TAKEN.sub('_', name)}": float(figure["value"])
        for number, side in enumerate(figures, 1)
        for name, figure in side.get("figures", {}).items()
        if figure["value"] is not None and math.isfinite(figure["value"])
    }
    return RunRecord(
        name=evaluation.name,
        experiment=EXPERIMENT,
        succeeded=evaluation.status == evaluation.Status.SUCCEEDED,
        cancelled=evaluation.status == evaluation.Status.CANCELLED,
        started=evaluation.started_at.timestamp() if evaluation.started_at else None,
        finished=evaluation.finished_at.timestamp() if evaluation.finished_at else None,
        params={f"side{n}": side.get("label", "") for n, side in enumerate(figures, 1)},
        metrics=metrics,
        tags={
            "job": str(evaluation.pk),
            "kind": "evaluation",
            "dataset": evaluation.dataset_label,
            "split": evaluation.split,
        },
    )


def sweep_record(sweep: Sweep) -> RunRecord:
    """The run that the trials' runs are shown under; begun before the first of them."""
    return RunRecord(
        name=sweep.name,
        experiment=EXPERIMENT,
        run_id=sweep.mlflow_run_id,
        succeeded=sweep.status == sweep.Status.SUCCEEDED,
        cancelled=sweep.status == sweep.Status.CANCELLED,
        ended=sweep.finished,
        started=sweep.started_at.timestamp() if sweep.started_at else None,
        finished=sweep.finished_at.timestamp() if sweep.finished_at else None,
        params={"method": sweep.method, "search": sweep.search, "metric": sweep.metric}
        if sweep.finished
        else {},
        tags={
            "job": str(sweep.pk),
            "kind": "sweep",
            "dataset": sweep.dataset_label,
            "best": str(sweep.best_id or ""),
        },
    )
