"""Checkpoints between a worker's disk and the storage: whole there, or not there at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

from finetune.engines.base import CHECKPOINTS, Saved
from finetune.engines.checkpoints import COMPLETE
from finetune.models import Checkpoint, TrainingJob
from mlops.exceptions import JobFailed
from mlops.stored_folders import (
    Files,
    FolderMissing,
    folder_delete,
    folder_get,
    folder_put,
    measure,
)

log = structlog.get_logger(__name__)


def keep(job: TrainingJob, folder: Path, saved: Saved) -> Checkpoint:
    """Puts a checkpoint into the storage; the row comes last. Those that made room for it go."""
    local = folder / CHECKPOINTS / saved.name
    row = job.checkpoints.filter(step=saved.step).first() or Checkpoint(job=job, step=saved.step)
    row.best, row.metrics, row.removed, row.files = saved.best, saved.metrics, False, {}
    try:
        row.files = folder_put(local, row.folder, files_of(local))
    except FileNotFoundError:
        # The trainer has made room for newer ones meanwhile: the storage is slower than it.
        row.removed = True
        row.best = False
    row.bytes = sum(size for size, _digest in row.files.values())
    if row.best:
        job.checkpoints.filter(best=True).update(best=False)
    row.save()
    for checkpoint in job.checkpoints.filter(removed=False):
        if checkpoint.name in saved.removed:
            forget(checkpoint)
    return row


def forget(checkpoint: Checkpoint) -> None:
    """Its files go, its figures stay."""
    Checkpoint.objects.filter(pk=checkpoint.pk).update(removed=True, best=False)
    folder_delete(checkpoint.folder)


def newest(job: TrainingJob, folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint of `job`, laid out in `folder`; None if there is none.

    One whose files are torn or gone is passed over, with a warning, for the one before it.
    """
    target = folder / CHECKPOINTS
    for checkpoint in job.checkpoints.filter(removed=False).order_by("-step"):
        local = target / checkpoint.name
        if local.exists() and not whole(local, checkpoint.files):
            shutil.rmtree(local)
        try:
            folder_get(checkpoint.folder, local)
        except FolderMissing as error:
            warn(f"Checkpoint {checkpoint.step} can't be used ({error.message}); an older one is.")
            continue
        return local
    return None


def lay(job: TrainingJob, folder: Path, step: int) -> Path:
    """The checkpoint of this step, laid out in `folder`. Raises JobFailed if it can't be had."""
    local = folder / CHECKPOINTS / f"checkpoint-{step}"
    checkpoint = job.checkpoints.filter(removed=False, step=step).first()
    try:
        if checkpoint is None:
            raise FolderMissing("it has been removed")
        folder_get(checkpoint.folder, local)
    except FolderMissing as error:
        raise JobFailed(
            f"Checkpoint {step} of {job} can't be fetched from the storage: {error.message}",
            code="no_checkpoint",
        ) from error
    return local


def lay_best(job: TrainingJob, folder: Path) -> None:
    """The best one beside the newest, where it can be had: the result may be made of it."""
    for checkpoint in job.checkpoints.filter(removed=False, best=True):
        with contextlib.suppress(FolderMissing):
            folder_get(checkpoint.folder, folder / CHECKPOINTS / checkpoint.name)


def clear_newer(folder: Path, kept: Path | None, known: set[str]) -> None:
    """Removes checkpoints that nobody recorded: they may be half written."""
    for path in (folder / CHECKPOINTS).glob("checkpoint-*"):
        if path != kept and path.name not in known:
            shutil.rmtree(path)


def files_of(local: Path) -> Files:
    """As the trainer has measured them when it had written them."""
    found = json.loads((local / COMPLETE).read_text())
    files = {name: (size, digest) for name, (size, digest) in found.items()}
    files[COMPLETE] = measure(local / COMPLETE)
    return files


def whole(local: Path, files: Files) -> bool:
    """Whether just these files lie there, by their sizes and hashes."""
    return all(
        (local / name).is_file() and measure(local / name) == tuple(measured)
        for name, measured in files.items()
    )
