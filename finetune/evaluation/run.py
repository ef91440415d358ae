"""The job that evaluates: each side answers the rows that it hasn't yet, then all are compared."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections.abc import Iterable
from typing import Any

import structlog
from django.conf import settings

from finetune.content.reader import ContentReader
from finetune.engines.base import Answered, Ended, Failed, Phase
from finetune.engines.evaluate import ROWS, EvaluationSpec
from finetune.evaluation.metrics import WRITTEN
from finetune.evaluation.reading import reader_of
from finetune.evaluation.results import SideRows, result_of
from finetune.evaluation.scoring import counts_of, scores_of
from finetune.evaluation.sides import process_options, reads_pictures
from finetune.formats.base import Row
from finetune.formats.kinds import view_of
from finetune.models import DatasetVersion, Evaluation, EvaluationRow, EvaluationSide
from finetune.training import devices
from finetune.training.child import Child
from finetune.version_files import split_rows
from mlops.exceptions import ApplicationError, EngineUnavailable, JobCancelled, JobFailed
from mlops.jobs import JobContext, WorkerStopping

log = structlog.get_logger(__name__)

MODULE = "finetune.engines.evaluate"
LOOK_SECONDS = 1.0
# Rows fetched and written at a time.
TOGETHER = 500
ASKED = (JobCancelled, WorkerStopping)


def run(job: Evaluation, context: JobContext) -> None:
    """Goes on where an attempt before this one was cut off, by side and row."""
    version = job.dataset_version
    if version is None:
        raise JobFailed(
            f"The dataset ({job.dataset_label}) has been deleted since the job was made.",
            code="dataset_deleted",
        )
    sides = list(
        job.sides.select_related("model__base", "version__base", "version__dataset_version")
    )
    work = _Work(job, context, version, sides)
    try:
        for side in sides:
            work.side(side)
    except EngineUnavailable as error:
        raise JobFailed(error.message, code="engine_unavailable") from error
    except ApplicationError as error:
        raise JobFailed(error.message, code=error.code) from error
    finally:
        shutil.rmtree(work.folder, ignore_errors=True)
    context.check()
    result = _compare(job, version, sides, work.numbers)
    Evaluation.objects.filter(pk=job.pk).update(result=result)
    job.result = result
    context.progress(work.total, work.total)


class _Work:
    """One attempt: rows to do, and how far all sides together are."""

    def __init__(
        self,
        job: Evaluation,
        context: JobContext,
        version: DatasetVersion,
        sides: list[EvaluationSide],
    ) -> None:
        self.job, self._context, self.version = job, context, version
        self.kind = version.dataset.kind
        self.numbers = rows_chosen(
            version, job.split, rows=job.options["rows"], seed=job.options["seed"]
        )
        self.total = len(self.numbers) * len(sides)
        self._done = EvaluationRow.objects.filter(side__in=sides).count()
        self._looked = 0.0
        self.written = bool(WRITTEN & set(job.metrics))
        self.folder = settings.TRAINING_FOLDER / "evaluations" / str(job.pk)
        context.write_progress(self._done, self.total)

    def side(self, side: EvaluationSide) -> None:
        known = set(side.rows.values_list("number", flat=True))
        left = [number for number in self.numbers if number not in known]
        if not left:
            return
        if reads_pictures(side):
            self._read(side, left)
        else:
            self._ask(side, left)

    # -- OCR, in this process ------------------------------------------------------------------

    def _read(self, side: EvaluationSide, left: list[int]) -> None:
        read = reader_of(side)
        for number, row in self._rows(left):
            self._look()
            answered: dict[str, Any] = {"number": number}
            try:
                answered["output"] = read(row)
            except ValueError as error:
                answered["error"] = str(error)
            self._keep(side, [answered], {number: row})

    # -- language models, in a process of their own -------------------------------------------

    def _ask(self, side: EvaluationSide, left: list[int]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = process_options(side)
        with (self.folder / ROWS).open("w", encoding="utf-8") as file:
            for number, row in self._rows(left):
                file.write(json.dumps({"number": number, "row": row}, ensure_ascii=False) + "\n")
        with devices.held(self.job.options["device"], 1, self._look) as held:
            spec = EvaluationSpec(
                folder=str(self.folder),
                kind=self.kind,
                device=held.named,
                answers=self.written,
                max_tokens=self.job.options["max_tokens"],
                **options,
            )
            with Child(
                self.folder,
                arguments=[str(spec.write())],
                locks=held.locks,
                processes=0,
                module=MODULE,
            ) as child:
                self._follow(side, child)

    def _follow(self, side: EvaluationSide, child: Child) -> None:
        """Raises what the job was asked for once the process has ended, and JobFailed."""
        last, asked, until = None, None, 0.0
        for event in child.events():
            match event:
                case Answered():
                    rows = ContentReader(self.version.sha256).rows(
                        one["number"] for one in event.rows
                    )
                    self._keep(side, event.rows, rows)
                case Ended() | Failed():
                    last = event
                case Phase():
                    log.info("evaluation_phase", side=side.label, phase=event.name)
            if asked is None:
                try:
                    self._look()
                except ASKED as error:
                    asked, until = error, time.monotonic() + settings.TRAINING_STOP_SECONDS
                    child.ask_to_stop()
            elif time.monotonic() > until:
                child.end()
        if asked is not None:
            raise asked
        if isinstance(last, Failed):
            log.error("evaluation_failed", code=last.code, traceback=last.traceback)
            raise JobFailed(f"{side.label}: {last.message}", code=last.code)
        if last is None:
            raise JobFailed(
                f"{side.label}: the process that evaluates ended with status {child.exit_status}. "
                f"What it said last:\n{child.last_words()}",
                code="evaluation_broken",
            )

    # -- rows -----------------------------------------------------------------------------------

    def _rows(self, numbers: list[int]) -> Iterable[tuple[int, Row]]:
        reader = ContentReader(self.version.sha256)
        for start in range(0, len(numbers), TOGETHER):
            yield from reader.rows(numbers[start : start + TOGETHER]).items()

    def _keep(
        self, side: EvaluationSide, answered: list[dict[str, Any]], rows: dict[int, Row]
    ) -> None:
        made = []
        for one in answered:
            row = rows[one["number"]]
            counts = counts_of(self.kind, row, one, written=self.written)
            scores = scores_of(counts)
            made.append(
                EvaluationRow(
                    side=side,
                    number=one["number"],
                    output=one.get("output", ""),
                    scores={name: scores[name] for name in scores if self._wanted(name)},
                    counts=counts,
                    error=one.get("error", ""),
                )
            )
        EvaluationRow.objects.bulk_create(made, ignore_conflicts=True)
        self._done += len(made)
        # The last step comes with the result.
        self._context.progress(min(self._done, self.total - 1), self.total)

    def _wanted(self, name: str) -> bool:
        return name in self.job.metrics or name.startswith("field.")

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._context.check()


def rows_chosen(version: DatasetVersion, split: str, *, rows: int, seed: int) -> list[int]:
    """Numbers of the split's rows, or of `rows` of them: the same for the same seed."""
    numbers = split_rows(version, split)
    if rows and len(numbers) > rows:
        return sorted(random.Random(seed).sample(numbers, rows))
    return numbers


def _compare(
    job: Evaluation, version: DatasetVersion, sides: list[EvaluationSide], numbers: list[int]
) -> dict[str, Any]:
    groups = _groups(version, numbers)
    compared = []
    for side in sides:
        rows = side.rows.order_by("number").values_list("number", "counts")
        counted = [(groups[number], counts) for number, counts in rows.iterator(TOGETHER)]
        compared.append(SideRows(side.label, counted))
    options = job.options
    result = result_of(compared, job.metrics, seed=options["seed"], samples=options["samples"])
    rows_in_split = version.split_counts.get(job.split, 0)
    errors = [side.rows.exclude(error="").count() for side in sides]
    for side, failed in zip(result["sides"], errors, strict=True):
        side["rows"], side["errors"] = len(numbers), failed
    return result | {"rows": len(numbers), "rows_in_split": rows_in_split}


def _groups(version: DatasetVersion, numbers: list[int]) -> dict[int, str]:
    """What each row stands or falls with: its group, or how its prompt begins."""
    kind, reader = version.dataset.kind, ContentReader(version.sha256)
    found = {}
    for start in range(0, len(numbers), TOGETHER):
        for number, row in reader.rows(numbers[start : start + TOGETHER]).items():
            group = row.get("group") or view_of(kind, row).group
            found[number] = hashlib.blake2b(str(group).encode(), digest_size=8).hexdigest()
    return found
