"""The job that trains: device, rows, checkpoint, the trainer's process, what comes of it."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from django.conf import settings

from finetune.engines.base import RESULT, Failed, Finished, Looked, TrainSpec
from finetune.engines.configs import config_of
from finetune.models import TrainingJob
from finetune.training import checkpoints, devices, layout, result, tracked
from finetune.training.child import Child
from finetune.training.progress import ERROR, INFO, WARN, Recorder
from finetune.training_files import versions_resolve
from llm.sources import local_path
from mlops.exceptions import JobCancelled, JobFailed, JobHeld, JobInterrupted
from mlops.jobs import JobContext, WorkerStopping

log = structlog.get_logger(__name__)

TRAINER = "finetune.engines.process"
# How often the job's row is looked at while a trainer works.
LOOK_SECONDS = 1.0
# As subprocess and torch.distributed name what ended a process.
SIGNALLED = re.compile(r"\bSIG(?:KILL|SEGV|ABRT|BUS|TERM|FPE|ILL)\b")
ASKED = (JobCancelled, JobHeld, WorkerStopping)


def run(job: TrainingJob, context: JobContext) -> None:
    """Goes on from the newest whole checkpoint, if an attempt before this one has left one."""
    look = Look(context)
    folder = layout.job_folder(job)
    recorder = Recorder(job, context, folder)
    config = config_of(job.method, job.options)
    with tracked.following(job):
        try:
            recorder.phase(job.Phase.VALIDATING)
            versions_resolve(job)
            layout.rows_lay(job, folder, look)
            spec = _spec(job, folder, recorder)
            recorder.phase(job.Phase.DEVICE)
            with devices.held(config.device, config.processes, look) as held:
                recorder.phase(job.Phase.LOADING)
                finished = _train(job, folder, spec, held, recorder, context)
            if isinstance(finished, Looked):
                TrainingJob.objects.filter(pk=job.pk).update(dry_report=finished.report)
            else:
                recorder.phase(job.Phase.SAVING)
                result.keep(job, folder / RESULT, finished, recorder)
            recorder.phase(job.Phase.ENDED)
        except JobFailed as error:
            recorder.tell(ERROR, error.message)
            # A retry takes what it needs from the storage, on whatever machine.
            layout.folder_clear(job)
            raise
        except JobCancelled:
            recorder.tell(INFO, "Cancelled.")
            layout.folder_clear(job)
            raise
        except JobHeld:
            recorder.tell(INFO, "Paused.")
            raise
    layout.folder_clear(job)
    context.progress(job.progress_total, job.progress_total)


class Look:
    """Looks at the job's row now and then; raises what ends the run."""

    def __init__(self, context: JobContext) -> None:
        self._context, self._looked = context, 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._context.check()


def _spec(job: TrainingJob, folder: Path, recorder: Recorder) -> TrainSpec:
    def warn(message: str) -> None:
        recorder.tell(WARN, message)

    begin_with = resume = ""
    if not job.dry_run:
        found = checkpoints.newest(job, folder, warn)
        checkpoints.lay_best(job, folder)
        checkpoints.clear_newer(folder, found, {one.name for one in job.checkpoints.all()})
        resume = str(found or "")
    if other := job.options.get("resume_from"):
        # Preferences are learned against the weights that the job began with.
        begin_with = str(_checkpoint_of(other, folder, warn))
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
        resume=resume,
        begin_with=begin_with,
        mode="dry" if job.dry_run else "train",
    )


def _checkpoint_of(other: str, folder: Path, warn: Callable[[str], None]) -> Path:
    """The newest checkpoint of another job, whose weights to begin with."""
    source = TrainingJob.objects.filter(pk=other).first()
    found = checkpoints.newest(source, folder / "begin", warn) if source else None
    if found is None:
        raise JobFailed(
            f"Job {other} has no checkpoint to begin with. Choose a job whose checkpoints are "
            "still there, or leave 'resume_from' out.",
            code="no_checkpoint",
        )
    return found


def _train(
    job: TrainingJob,
    folder: Path,
    spec: TrainSpec,
    held: devices.Held,
    recorder: Recorder,
    context: JobContext,
) -> Finished | Looked:
    spec = TrainSpec(**_fields(spec) | {"options": spec.options | _device(held)})
    arguments = [str(spec.write())]
    look, asked, until = Look(context), None, 0.0
    with Child(
        folder,
        arguments=arguments,
        locks=held.locks,
        processes=len(held.devices),
        module=TRAINER,
    ) as child:
        for event in child.events():
            if event is not None:
                recorder(event)
            if asked is None:
                try:
                    look()
                except ASKED as error:
                    asked, until = error, time.monotonic() + settings.TRAINING_STOP_SECONDS
                    child.ask_to_stop()
            elif time.monotonic() > until:
                child.end()
        status, words = child.exit_status, child.last_words()
    if isinstance(recorder.last, Finished | Looked):
        return recorder.last
    if asked is not None:
        raise asked
    if isinstance(recorder.last, Failed):
        raise _failed(recorder.last)
    raise _gone(job, recorder, status, words)


def _fields(spec: TrainSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def _device(held: devices.Held) -> dict[str, str]:
    """One device by name; of several, each process takes its own."""
    return {"device": held.devices[0] if len(held.devices) == 1 else "cuda"}


def _failed(failed: Failed) -> JobFailed:
    if failed.traceback:
        log.error("trainer_failed", code=failed.code, traceback=failed.traceback)
    return JobFailed(failed.message, code=failed.code)


def _gone(job: TrainingJob, recorder: Recorder, status: int | None, words: str) -> Exception:
    """The trainer has ended without a word: killed, or broken before it could speak."""
    killed = _signal(status, words)
    if not killed:
        return JobFailed(
            f"The trainer ended with status {status} and without a result. What it said last:\n"
            f"{words}",
            code="trainer_broken",
        )
    if job.attempts >= job.max_attempts:
        return JobFailed(
            f"The trainer was killed ({killed}) in each of {job.attempts} attempts. If memory ran "
            "out: lower 'batch_size' or 'max_length', or turn 'gradient_checkpointing' on.",
            code="trainer_killed",
        )
    recorder.tell(WARN, f"The trainer was killed ({killed}); it goes on from its last checkpoint.")
    return JobInterrupted(f"The trainer was killed ({killed}).")


def _signal(status: int | None, words: str) -> str:
    """The signal that ended the trainer; "" if it was none.

    accelerate stands between it and us, ends with 1 and says in words what it has seen.
    """
    if status is not None and status < 0:
        return signal.Signals(-status).name
    said = SIGNALLED.search(words)
    return said[0] if said else ""
