"""OpenAI's objects of fine-tuning: a job, its events, its checkpoints."""

from __future__ import annotations

from typing import Any

from finetune.api.openai.requests import AUTO, RATES
from finetune.models import Checkpoint, TrainingEvent, TrainingJob, TrainingMetric
from finetune.training_files import INVALID
from llm.api.openai_view import seconds
from mlops.models import Job

KINDS = {TrainingJob.Method.SFT: "supervised", TrainingJob.Method.DPO: "dpo"}
# OpenAI's names of the figures of a checkpoint, and ours.
FIGURES = {
    "train_loss": "loss",
    "train_mean_token_accuracy": "accuracy",
    "valid_loss": "eval_loss",
    "valid_mean_token_accuracy": "eval_accuracy",
    "full_valid_loss": "eval_loss",
    "full_valid_mean_token_accuracy": "eval_accuracy",
}
# In front of the number of an event that is a point of the curves.
POINT = "m"


def status_of(job: TrainingJob) -> str:
    """The job's status as OpenAI has it.

    One made from files is validated while it waits for their import; another before its rows are
    laid out. Waiting for a device is waiting all the same.
    """
    if job.status == Job.Status.QUEUED and job.after_id is not None:
        return "validating_files"
    if job.status == Job.Status.RUNNING:
        phase = job.phase
        if phase in (job.Phase.NEW, job.Phase.VALIDATING):
            return "queued" if job.dataset_import_id else "validating_files"
        return "queued" if phase in (job.Phase.DEVICE, job.Phase.MACHINES) else "running"
    return job.status


def job_object(job: TrainingJob) -> dict[str, Any]:
    kind = KINDS[job.method]
    hyperparameters = _hyperparameters(job)
    succeeded = job.status == Job.Status.SUCCEEDED
    return {
        "object": "fine_tuning.job",
        "id": job.openai_id,
        "model": job.base_name,
        "created_at": seconds(job.created_at),
        "finished_at": seconds(job.finished_at),
        "estimated_finish": seconds(job.estimated_finish),
        "fine_tuned_model": (job.model_name or None) if succeeded else None,
        "organization_id": f"org-{job.owner_id or 0}",
        "result_files": [job.results_file] if job.results_file else [],
        "status": status_of(job),
        "validation_file": job.validation_file or None,
        # One that wasn't made from a file says what it was made from.
        "training_file": job.training_file or job.dataset_label,
        "hyperparameters": {name: hyperparameters[name] for name in COMMON},
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "trained_tokens": job.trained_tokens if succeeded else None,
        "integrations": [],
        "seed": int(job.options.get("seed", 0)),
        "error": _error(job),
        "metadata": job.request.get("metadata"),
    }


COMMON = ("n_epochs", "batch_size", "learning_rate_multiplier")


def _hyperparameters(job: TrainingJob) -> dict[str, Any]:
    """As asked for; "auto" becomes what was found once that is known."""
    given = job.request.get("hyperparameters", {})
    options, found = job.options, job.settings_found
    rate = options.get("learning_rate", AUTO)
    batch = options.get("batch_size", AUTO)
    epochs = max(1, round(options.get("epochs", 1)))
    unsaid = bool(job.training_file) and given.get("n_epochs", AUTO) == AUTO and not found
    shown: dict[str, Any] = {
        "n_epochs": AUTO if unsaid else epochs,
        "batch_size": _rows_a_step(found) if batch == AUTO and found else batch,
        "learning_rate_multiplier": AUTO if rate == AUTO else round(rate / RATES[job.method], 9),
    }
    if rate == AUTO and found:
        shown["learning_rate_multiplier"] = 1.0
    if job.method == TrainingJob.Method.DPO:
        shown["beta"] = options.get("beta", AUTO)
    return shown


def _rows_a_step(found: dict[str, Any]) -> int:
    return int(found["batch_size"]) * int(found.get("gradient_accumulation", 1))


def _error(job: TrainingJob) -> dict[str, Any] | None:
    if job.status != Job.Status.FAILED:
        return None
    for imported, param in (
        (job.validation_import, "validation_file"),
        (job.dataset_import, "training_file"),
    ):
        if imported is not None and imported.status in (Job.Status.FAILED, Job.Status.CANCELLED):
            said = imported.error or "The import of the file was cancelled."
            return {"code": f"invalid_{param}", "message": said, "param": param}
    param = "training_file" if job.error_code == INVALID else None
    return {"code": job.error_code or "job_failed", "message": job.error, "param": param}


def event_object(event: TrainingEvent) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": event.openai_id,
        "created_at": seconds(event.created_at),
        "level": event.level,
        "message": event.message,
        "type": "message",
        "data": event.data,
    }


def point_object(point: TrainingMetric, total: int) -> dict[str, Any]:
    """A point of the curves as an event of the type `metrics`."""
    values = {"step": point.step, "total_steps": total}
    values |= {name: point.values[ours] for name, ours in FIGURES.items() if ours in point.values}
    told = [
        f"{shown}={point.values[name]:.4f}"
        for name, shown in (("loss", "training loss"), ("eval_loss", "validation loss"))
        if name in point.values
    ]
    return {
        "object": "fine_tuning.job.event",
        "id": f"ftevent-{POINT}{point.pk}",
        "created_at": seconds(point.at),
        "level": "info",
        "message": f"Step {point.step}/{total}" + (f": {', '.join(told)}" if told else ""),
        "type": "metrics",
        "data": values,
    }


def checkpoint_object(
    checkpoint: Checkpoint, values: dict[str, float], final: tuple[int, str] | None
) -> dict[str, Any]:
    """`values`: of the curves at its step. `final`: the step and name of the model at the end."""
    figures = values | checkpoint.metrics
    name = checkpoint.model_name
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint.pk,
        "created_at": seconds(checkpoint.created_at),
        "fine_tuning_job_id": checkpoint.job.openai_id,
        "fine_tuned_model_checkpoint": final[1] if final and final[0] == checkpoint.step else name,
        "step_number": checkpoint.step,
        "metrics": {"step": checkpoint.step}
        | {name: figures.get(ours) for name, ours in FIGURES.items()},
    }
