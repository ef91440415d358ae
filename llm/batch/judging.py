"""Every line of a batch is judged before any is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import structlog
from django.conf import settings
from django.db.models.functions import Now

from llm.batch.calls import call_of
from llm.batch.check import Check
from llm.batch.lines import RawLine, parse_line, raw_lines
from llm.models import BatchLine, LanguageModel, LlmBatch
from llm.selectors import model_resolve
from mlops.exceptions import ApplicationError, JobFailed

log = structlog.get_logger(__name__)

AT_ONCE = 500
# As many lines at fault as a batch names.
MOST_ERRORS = 1000


def judge(batch: LlmBatch, path: Path, check: Check) -> None:
    """A row for each line. Raises JobFailed, with the lines at fault named on the batch."""
    batch.lines.all().delete()
    judged = Judged(batch)
    errors: list[dict[str, Any]] = []
    rows: list[BatchLine] = []
    try:
        for line in raw_lines(path, most_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE):
            judged.count()
            try:
                rows.append(judged.row(line))
            except ApplicationError as error:
                errors.append(_line_error(error, line.number))
                if len(errors) >= MOST_ERRORS:
                    break
            if len(rows) == AT_ONCE:
                check()
                BatchLine.objects.bulk_create(rows)
                rows.clear()
        judged.finish()
    except ApplicationError as error:
        errors.append(_line_error(error, None))
    check()
    if errors:
        _refuse(batch, judged, errors)
    BatchLine.objects.bulk_create(rows)
    LlmBatch.objects.filter(pk=batch.pk).update(
        total=judged.lines, model=judged.model, asked_model=judged.asked, in_progress_at=Now()
    )
    batch.refresh_from_db()
    log.info("batch_validated", batch=batch.public_id, requests=batch.total)


class Judged:
    """What the lines so far have in common, and what they may not have."""

    def __init__(self, batch: LlmBatch) -> None:
        self.batch = batch
        self.lines = 0
        self.model: LanguageModel | None = None
        self.asked = ""
        self._ids: dict[str, int] = {}

    def count(self) -> None:
        """Raises ApplicationError for a line too many."""
        self.lines += 1
        if self.lines > settings.LLM_BATCH_MAX_LINES:
            raise ApplicationError(
                f"There are more than {settings.LLM_BATCH_MAX_LINES} requests. Split the file.",
                code="too_many_lines",
            )

    def row(self, line: RawLine) -> BatchLine:
        """Raises ApplicationError for a line that can't be run."""
        custom_id, body = parse_line(line.raw, endpoint=self.batch.endpoint)
        if custom_id in self._ids:
            raise ApplicationError(
                f"custom_id: line {self._ids[custom_id]} has '{custom_id}', too.",
                code="duplicate_custom_id",
                param="custom_id",
            )
        self._ids[custom_id] = line.number
        self._one_model(call_of(line.number, self.batch.endpoint, body).body.model)
        return BatchLine(
            batch=self.batch,
            number=line.number,
            custom_id=custom_id,
            offset=line.offset,
            length=len(line.raw),
        )

    def finish(self) -> None:
        """Raises ApplicationError if there was no line."""
        if not self.lines:
            raise ApplicationError(
                "The file has no request.", code="empty_file", param="input_file_id"
            )

    def _one_model(self, name: str) -> None:
        if self.model is None:
            self.model, self.asked = _model(name, self.batch.endpoint), name
        elif name != self.asked:
            raise ApplicationError(
                f"model: the lines before this one ask '{self.asked}'. Make a batch for each "
                "model.",
                code="mismatched_model",
                param="model",
            )


def _refuse(batch: LlmBatch, judged: Judged, errors: list[dict[str, Any]]) -> NoReturn:
    batch.lines.all().delete()
    LlmBatch.objects.filter(pk=batch.pk).update(line_errors=errors, asked_model=judged.asked)
    first = errors[0]
    place = f"line {first['line']}: " if first["line"] else ""
    raise JobFailed(
        f"{len(errors)} lines can't be run, so none was. The first: {place}{first['message']}",
        code="invalid_lines",
    )


def _model(name: str, endpoint: str) -> LanguageModel:
    """Raises ApplicationError if there is none that answers such requests."""
    model = model_resolve(name)
    embeds = endpoint == LlmBatch.Endpoint.EMBEDDING
    if embeds != (model.root.task == LanguageModel.Task.EMBED):
        raise ApplicationError(
            f"The model '{name}' makes {model.root.get_task_display()}: {endpoint} is not for it.",
            code="unsupported_model",
            param="model",
        )
    return model


def _line_error(error: ApplicationError, line: int | None) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "line": line, "param": error.param}
