"""The job that takes part in a training which another machine leads.

It lays out the same rows and the same checkpoint, holds devices of its own, says that it is ready,
and starts its trainer once it is told where all meet.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from django.conf import settings

from finetune.engines.base import Failed, TrainSpec
from finetune.models import TrainingJob, TrainingJoin
from finetune.training import layout, run
from finetune.training.beginning import spec_as_told
from finetune.training.child import Child, Meeting
from finetune.training.devices import Held
from finetune.training.turns import machines_of
from mlops.exceptions import JobFailed
from mlops.jobs import JobContext

LOOK_SECONDS = 0.5


class Over(Exception):
    """The attempt has ended, however it did."""


def join(row: TrainingJoin, context: JobContext, held: Held) -> None:
    """Ends with the attempt that it belongs to. Raises JobFailed for what went wrong here."""
    folder = settings.TRAINING_FOLDER / "joins" / str(row.pk)
    look = run.Look(context)
    try:
        over_check(row)
        related = ("base", "dataset_version", "validation_version")
        job = TrainingJob.objects.select_related(*related).get(pk=row.parent_id)
        folder.mkdir(parents=True, exist_ok=True)
        layout.rows_lay(job, folder, look)
        spec = spec_as_told(job, folder, resume_step=row.resume_step, begin_step=row.begin_step).on(
            held.named
        )
        TrainingJoin.objects.filter(pk=row.pk).update(ready=row.attempts)
        meeting = _told(row, machines_of(job), look)
        _work(row, folder, spec, held, meeting, look)
    except Over:
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def over_check(row: TrainingJoin) -> None:
    if not TrainingJoin.objects.current().filter(pk=row.pk).exists():
        raise Over


def _told(row: TrainingJoin, machines: int, look: run.Look) -> Meeting:
    """Where all meet, once every machine is ready. Raises Over, and what the job is asked for."""
    if row.port:
        # The others have begun with the worker that this row had before.
        raise Over
    while True:
        look()
        over_check(row)
        row.refresh_from_db(fields=["address", "port"])
        if row.port:
            return Meeting(machines, row.rank, row.address, row.port)
        time.sleep(LOOK_SECONDS)


def _work(
    row: TrainingJoin,
    folder: Path,
    spec: TrainSpec,
    held: Held,
    meeting: Meeting,
    look: run.Look,
) -> None:
    failed, until = None, 0.0
    checked = time.monotonic()
    with Child(
        folder,
        arguments=[str(spec.write())],
        locks=held.locks,
        processes=len(held.devices),
        meeting=meeting,
        module=run.TRAINER,
    ) as child:
        for event in child.events():
            if isinstance(event, Failed):
                failed = failed or event
            if time.monotonic() - checked >= LOOK_SECONDS:
                checked = time.monotonic()
                over_check(row)
            if until:
                if time.monotonic() > until:
                    child.end()
                continue
            try:
                look()
            except run.ASKED:
                # The first machine hears of it, and all save and end after the same step.
                TrainingJoin.objects.filter(pk=row.pk).update(leaving=True)
                until = time.monotonic() + settings.TRAINING_STOP_SECONDS
        status, words = child.exit_status, child.last_words()
    if status == 0 or until:
        return
    if failed is not None:
        raise run.failed(failed)
    raise _gone(status, words)


def _gone(status: int | None, words: str) -> JobFailed:
    """The trainer has ended without a word."""
    if killed := run.signal_of(status, words):
        return JobFailed(
            f"The trainer was killed ({killed}). If memory ran out: lower 'batch_size' or "
            "'max_length', or turn 'gradient_checkpointing' on.",
            code="trainer_killed",
        )
    return JobFailed(
        f"The trainer ended with status {status}. What it said last:\n{words}",
        code="trainer_broken",
    )
