"""Datasets out of accepted extractions: what a model is asked for, and the values vouched for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from finetune.reading import BadLine, Record
from llm.extraction.base import Task
from llm.extraction.prompt import compact, messages, page_lines
from llm.extraction_pages import pages_of
from llm.models import ExtractionJob

# Extractions fetched at a time: each holds a schema and values.
BATCH = 200


def extractions_of(ids: Sequence[str]) -> list[str]:
    """The accepted ones, those of a document together."""
    jobs = ExtractionJob.objects.filter(pk__in=list(ids), accepted_at__isnull=False)
    ordered = jobs.order_by("document_id", "created_at", "pk")
    return [str(pk) for pk in ordered.values_list("pk", flat=True)]


class ExtractionSource:
    """Records made from accepted extractions; those of a document are of one group."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.container, self.notes = "accepted extractions", []
        self._ids = extractions_of(ids)
        if len(self._ids) < len(ids):
            left = len(ids) - len(self._ids)
            self.notes.append(f"{left} of {len(ids)} are not accepted any more and were left out.")
        self._done = 0

    def progress(self) -> tuple[int, int]:
        return self._done, len(self._ids)

    def records(self) -> Iterator[Record]:
        for start in range(0, len(self._ids), BATCH):
            part = self._ids[start : start + BATCH]
            jobs = ExtractionJob.objects.select_related("document", "template")
            found = {str(pk): job for pk, job in jobs.in_bulk(part).items()}
            for pk in part:
                self._done += 1
                if pk in found:
                    job = found[pk]
                    # What was uploaded twice is one document to learn from.
                    yield Record(self._done, row_of(job), "", job.document.sha256)


def row_of(job: ExtractionJob) -> dict[str, Any] | BadLine:
    """A conversation as the platform leads it with a model, answered by the accepted values."""
    lines = page_lines(pages_of(job))
    if not lines:
        return BadLine("empty_prompt", f"The reading of {job.document} is gone or empty.", "")
    task = Task(job.schema, job.instructions, job.examples)
    asked = messages("\n".join(lines), task)
    answer = {"role": "assistant", "content": compact(job.final or {})}
    meta = {
        "document": str(job.document_id),
        "job": str(job.ocr_job_id or ""),
        "extraction": str(job.pk),
        "extraction_version": job.version,
        "template": job.template.name if job.template else "",
        "by": job.engine_name,
        "corrected": job.corrected is not None,
    }
    return {"messages": [*asked, answer], "meta": meta}
