"""Extracted values as CSV and JSON Lines, a row an extraction, made while they are sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from llm.extraction.fields import leaves
from llm.models import ExtractionJob

AT_ONCE = 500
_HEAD = ("id", "document", "document_name", "status", "template", "model", "accepted_at", "error")
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def jsonl(jobs: QuerySet[ExtractionJob]) -> Iterator[str]:
    """Values as they are by now, with their evidence."""
    for job in _rows(jobs):
        row = _head(job) | {
            "values": job.final,
            "corrected": job.corrected is not None,
            "evidence": job.evidence,
            "problems": job.problems,
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def to_csv(jobs: QuerySet[ExtractionJob]) -> Iterator[str]:
    """A column a field; nested fields are `seller.name`, lists are JSON. UTF-8 with a mark."""
    columns = _columns(jobs)
    # Without the mark Excel takes UTF-8 for something else.
    yield "\ufeff" + _line([*_HEAD, *columns])
    for job in _rows(jobs):
        values = _flat(job.final or {})
        yield _line([*_head(job).values(), *(values.get(name) for name in columns)])


def _rows(jobs: QuerySet[ExtractionJob]) -> Iterator[ExtractionJob]:
    return jobs.select_related("document", "template").iterator(chunk_size=AT_ONCE)


def _head(job: ExtractionJob) -> dict[str, Any]:
    return {
        "id": str(job.pk),
        "document": str(job.document_id),
        "document_name": job.document.name,
        "status": job.status,
        "template": job.template.name if job.template else "",
        "model": job.engine_name,
        "accepted_at": job.accepted_at.isoformat() if job.accepted_at else None,
        "error": job.error or None,
    }


def _columns(jobs: QuerySet[ExtractionJob]) -> list[str]:
    """The fields that any of the rows has, in the order of the schemas."""
    columns: dict[str, None] = {}
    for schema in jobs.order_by().values_list("schema", flat=True).distinct():
        for name, own in schema.get("properties", {}).items():
            inside = own.get("properties") if isinstance(own, dict) else None
            for part in inside or [""]:
                columns[f"{name}.{part}" if part else name] = None
    return list(columns)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            for path, leaf in leaves(value):
                flat[".".join([name, *map(str, path)])] = leaf
        else:
            flat[name] = value
    return flat


def _line(cells: list[Any]) -> str:
    target = io.StringIO()
    csv.writer(target).writerow([_cell(cell) for cell in cells])
    return target.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
