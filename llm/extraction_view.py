"""An extraction as the console shows it: its fields in the schema's order, its pages, the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from llm.extraction.fields import Path, nullable, pointer, resolved, types_of, words_of
from llm.models import ExtractionJob
from mlops.models import Job
from ocr.models import PageResult


def extraction_state(job: ExtractionJob) -> dict[str, Any]:
    """Everything that the page needs, as JSON."""
    pages = PageResult.objects.filter(job=job.ocr_job_id, error="").order_by("page__number")
    sizes = pages.values_list("page__number", "width", "height")
    return {
        "id": str(job.pk),
        "document": job.document.name,
        "status": job.status,
        "finished": job.finished,
        "error": job.error,
        "version": job.version,
        "accepted_at": job.accepted_at.isoformat() if job.accepted_at else None,
        "reviewer": job.reviewer.username if job.reviewer else None,
        "engine": job.engine_name,
        "template": job.template.name if job.template else None,
        "values": job.final,
        "extracted": job.values,
        "evidence": job.evidence,
        "problems": job.problems,
        "fields": list(field_rows(job.schema, job.final or {})),
        "pages": [{"number": n, "width": width, "height": height} for n, width, height in sizes],
    }


def field_rows(
    schema: Mapping[str, Any],
    values: Any,
    *,
    root: Mapping[str, Any] | None = None,
    path: Path = (),
    group: str = "",
) -> Iterator[dict[str, Any]]:
    """Each value that can be edited: its pointer, its name, the group it stands in, its type."""
    root = root or schema
    for name, own in resolved(schema, root).get("properties", {}).items():
        field = resolved(own, root)
        types = types_of(field)
        inside = values.get(name) if isinstance(values, Mapping) else None
        here = (*path, name)
        if "object" in types:
            title = " · ".join(filter(None, [group, words_of(name)]))
            yield from field_rows(field, inside or {}, root=root, path=here, group=title)
        elif "array" in types:
            yield from _rows_of_list(field, inside or [], root, here)
        else:
            yield {
                "path": pointer(here),
                "name": words_of(name),
                "group": group,
                "type": "number" if types & {"number", "integer"} else "text",
                "date": field.get("format") == "date",
                "enum": [one for one in field.get("enum", ()) if one is not None],
                "nullable": nullable(field),
                "description": field.get("description", ""),
            }


def _rows_of_list(
    field: Mapping[str, Any], values: Any, root: Mapping[str, Any], path: Path
) -> Iterator[dict[str, Any]]:
    own = resolved(field.get("items", {}), root)
    for number, value in enumerate(values if isinstance(values, list) else []):
        group = f"{words_of(str(path[-1]))} {number + 1}"
        if "object" in types_of(own):
            yield from field_rows(own, value, root=root, path=(*path, number), group=group)
        else:
            one = {"type": "object", "properties": {str(number): own}}
            yield from field_rows(one, {str(number): value}, root=root, path=path, group=group)


def neighbours(
    jobs: QuerySet[ExtractionJob], job: ExtractionJob
) -> tuple[ExtractionJob | None, ExtractionJob | None, ExtractionJob | None]:
    """(before, after, next to be reviewed) among those with values: of the same batch, if any.

    The newest stands first, as in the list.
    """
    others = jobs.filter(status=Job.Status.SUCCEEDED, parent=job.parent_id).exclude(pk=job.pk)
    newer = others.filter(created_at__gte=job.created_at).order_by("created_at", "pk").first()
    older = others.filter(created_at__lt=job.created_at).order_by("-created_at", "pk")
    open_ones = others.filter(accepted_at=None)
    upcoming = (
        open_ones.filter(created_at__lt=job.created_at).order_by("-created_at", "pk").first()
        or open_ones.order_by("-created_at", "pk").first()
    )
    return newer, older.first(), upcoming
