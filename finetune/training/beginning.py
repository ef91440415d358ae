"""What a trainer begins with, as its machine lays it out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from finetune.engines.base import RESULT, TrainSpec
from finetune.models import TrainingJob
from finetune.training import checkpoints
from llm.sources import local_path
from mlops.exceptions import JobFailed

BEGIN = "begin"


def spec_newest(job: TrainingJob, folder: Path, warn: Callable[[str], None]) -> TrainSpec:
    """Goes on from the newest whole checkpoint, if there is one."""
    found = begin_with = None
    if not job.dry_run:
        found = checkpoints.newest(job, folder, warn)
        checkpoints.lay_best(job, folder)
        checkpoints.clear_newer(folder, found, {one.name for one in job.checkpoints.all()})
    if other := job.options.get("resume_from"):
        source = TrainingJob.objects.filter(pk=other).first()
        begin_with = checkpoints.newest(source, folder / BEGIN, warn) if source else None
        if begin_with is None:
            raise _none_to_begin_with(other)
    return _spec(job, folder, found, begin_with)


def spec_as_told(job: TrainingJob, folder: Path, *, resume_step: int, begin_step: int) -> TrainSpec:
    """From the checkpoints that the training's first machine has chosen; 0: none."""
    resume = begin_with = None
    if resume_step:
        resume = checkpoints.lay(job, folder, resume_step)
    if begin_step:
        other = job.options["resume_from"]
        source = TrainingJob.objects.filter(pk=other).first()
        if source is None:
            raise _none_to_begin_with(other)
        begin_with = checkpoints.lay(source, folder / BEGIN, begin_step)
    return _spec(job, folder, resume, begin_with)


def step_of(checkpoint: str) -> int:
    """Of the checkpoint in this folder; 0 where it is empty."""
    return int(Path(checkpoint).name.rpartition("-")[2]) if checkpoint else 0


def _spec(
    job: TrainingJob, folder: Path, resume: Path | None, begin_with: Path | None
) -> TrainSpec:
    shutil.rmtree(folder / RESULT, ignore_errors=True)
    base = job.base
    if base is None and job.base_name:
        raise JobFailed(
            f"The model {job.base_name} has been deleted since the job was made. Add it again "
            "and start a new job.",
            code="model_deleted",
        )
    return TrainSpec(
        method=job.method,
        options=job.options,
        folder=str(folder),
        base=local_path(base.source) if base else "",
        chat_template=base.chat_template if base else "",
        resume=str(resume or ""),
        # Preferences are learned against the weights that the job began with.
        begin_with=str(begin_with or ""),
        mode="dry" if job.dry_run else "train",
    )


def _none_to_begin_with(other: str) -> JobFailed:
    return JobFailed(
        f"Job {other} has no checkpoint to begin with. Choose a job whose checkpoints are "
        "still there, or leave 'resume_from' out.",
        code="no_checkpoint",
    )
