"""The job that trains: device, rows, checkpoint, the trainer's process, what comes of it."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import structlog
from django.conf import settings

from finetune.engines.base import PEER_LOST, RESULT, Failed, Finished, Looked, TrainSpec
from finetune.engines.configs import config_of
from finetune.models import TrainingJob
from finetune.training import devices, layout, machines, result, tracked
from finetune.training.beginning import spec_newest
from finetune.training.child import Child
from finetune.training.progress import ERROR, INFO, WARN, Recorder
from finetune.training_files import versions_resolve
from mlops.exceptions import JobCancelled, JobFailed, JobHeld, JobInterrupted
from mlops.jobs import JobContext, WorkerStopping

log = structlog.get_logger(__name__)

TRAINER = "finetune.engines.process"
# How often the job's row is looked at while a trainer works.
LOOK_SECONDS = 1.0
# As subprocess and torch.distributed name what ended a process.
SIGNALLED = re.compile(r"\bSIG(?:KILL|SEGV|ABRT|BUS|TERM|FPE|ILL)\b")
ASKED = (JobCancelled, JobHeld, WorkerStopping)
# What the first machine does when the others have done all that they were needed for.
MADE_ALONE = (TrainingJob.Phase.SAVING, TrainingJob.Phase.CHECKING)


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
            spec = spec_newest(job, folder, recorder.warn)
            recorder.phase(job.Phase.DEVICE)
            with (
                devices.held(config.device, config.processes, look) as held,
                machines.gathered(job, spec, recorder, look) as others,
            ):
                recorder.phase(job.Phase.LOADING)
                spec = spec.on(held.named)
                finished = _train(job, folder, spec, held, others, recorder, context)
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


def _train(
    job: TrainingJob,
    folder: Path,
    spec: TrainSpec,
    held: devices.Held,
    others: machines.Others,
    recorder: Recorder,
    context: JobContext,
) -> Finished | Looked:
    arguments = [str(spec.write())]
    look, asked, lost, until = Look(context), None, None, 0.0
    with Child(
        folder,
        arguments=arguments,
        locks=held.locks,
        processes=len(held.devices),
        meeting=others.meeting,
        module=TRAINER,
    ) as child:
        for event in child.events():
            if event is not None:
                recorder(event)
            if asked is None:
                try:
                    look()
                    if job.phase not in MADE_ALONE:
                        others.look()
                except ASKED as error:
                    asked, until = error, time.monotonic() + settings.TRAINING_STOP_SECONDS
                    child.ask_to_stop()
                except (JobFailed, JobInterrupted) as error:
                    # The trainer would wait for it for ever.
                    asked = lost = error
                    child.end()
            elif time.monotonic() > until:
                child.end()
        status, words = child.exit_status, child.last_words()
    if isinstance(recorder.last, Finished | Looked):
        return recorder.last
    if asked is not None and lost is None:
        raise asked
    if isinstance(recorder.last, Failed) and recorder.last.code != PEER_LOST:
        raise failed(recorder.last)
    if lost is None:
        why = others.reason()
        # Killed without a word it has a reason of its own, unless another machine has told one.
        if recorder.last is not None or isinstance(why, JobFailed):
            lost = why
    if isinstance(lost, JobInterrupted):
        recorder.tell(WARN, f"{lost} It goes on from its last checkpoint.")
    if lost is not None:
        raise lost
    raise _gone(job, recorder, status, words)


def failed(event: Failed) -> JobFailed:
    if event.traceback:
        log.error("trainer_failed", code=event.code, traceback=event.traceback)
    return JobFailed(event.message, code=event.code)


def _gone(job: TrainingJob, recorder: Recorder, status: int | None, words: str) -> Exception:
    """The trainer has ended without a word: killed, or broken before it could speak."""
    killed = signal_of(status, words)
    if not killed and isinstance(recorder.last, Failed):
        return failed(recorder.last)
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


def signal_of(status: int | None, words: str) -> str:
    """The signal that ended the trainer; "" if it was none.

    accelerate stands between it and us, ends with 1 and says in words what it has seen.
    """
    if status is not None and status < 0:
        return signal.Signals(-status).name
    said = SIGNALLED.search(words)
    return said[0] if said else ""
