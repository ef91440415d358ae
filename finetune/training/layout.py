"""A job's folder on the worker's disk: rows as files, pictures beside them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from finetune.engines.base import IMAGES, ROWS
from finetune.formats.base import Row
from finetune.models import DatasetVersion, TrainingJob
from finetune.version_files import version_rows
from mlops.exceptions import ApplicationError, JobFailed

# Rows between two looks at the job.
LOOK = 500
# Written once the rows are whole: which they are.
DONE = "done.json"
SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


def job_folder(job: TrainingJob) -> Path:
    folder = settings.TRAINING_FOLDER / "jobs" / str(job.pk)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def folder_clear(job: TrainingJob) -> None:
    """What the job needs no more once it has ended: all that it has lies in the storage."""
    shutil.rmtree(settings.TRAINING_FOLDER / "jobs" / str(job.pk), ignore_errors=True)


def rows_lay(job: TrainingJob, folder: Path, look: Callable[[], None]) -> dict[str, int]:
    """Writes the rows of the job's dataset as files; how many of each split.

    Raises JobFailed where the dataset was deleted in the meantime.
    """
    version, validation = job.dataset_version, job.validation_version
    if version is None:
        raise JobFailed(
            f"The dataset ({job.dataset_label}) has been deleted since the job was made. "
            "Import it again and start a new job.",
            code="dataset_deleted",
        )
    made_of = {"train": str(version.pk), "validation": str(validation.pk if validation else "")}
    target = folder / ROWS
    done = target / DONE
    if done.exists():
        kept = json.loads(done.read_text())
        if kept["made_of"] == made_of:
            return kept["counts"]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        counts = {"train": _write(version, ["train"], target / "train.jsonl", folder, look)}
        splits = ["train", "validation", "test"] if validation else ["validation"]
        path = target / "validation.jsonl"
        counts["validation"] = _write(validation or version, splits, path, folder, look)
    except ApplicationError as error:
        raise JobFailed(f"{job.dataset_label}: {error.message}", code=error.code) from error
    if not counts["train"]:
        raise JobFailed(
            f"{job.dataset_label} has no rows in its training split. Import it with a smaller "
            "share for validation and test.",
            code="no_rows",
        )
    done.write_text(json.dumps({"made_of": made_of, "counts": counts}))
    return counts


def _write(
    version: DatasetVersion,
    splits: list[str],
    path: Path,
    folder: Path,
    look: Callable[[], None],
) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for split in splits:
            for row in version_rows(version, split):
                written = _with_file(row, folder, f"{path.stem}-{count}")
                file.write(json.dumps(written, ensure_ascii=False) + "\n")
                count += 1
                if count % LOOK == 0:
                    look()
    return count


def _with_file(row: Row, folder: Path, name: str) -> dict[str, Any]:
    """A row of OCR with its picture as a file beside it."""
    if "image" not in row:
        return row
    suffix = SUFFIXES.get(row.get("media_type", ""), "png")
    (folder / IMAGES).mkdir(exist_ok=True)
    path = folder / IMAGES / f"{name}.{suffix}"
    path.write_bytes(base64.b64decode(row["image"]))
    return row | {"image": f"{IMAGES}/{path.name}"}
