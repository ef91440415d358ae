"""Writes of what people make of extracted values: corrected, accepted, reopened."""

from __future__ import annotations

import copy
from typing import Any

from django.db import transaction
from django.utils import timezone

from llm.extraction.correcting import typed_value, with_value
from llm.extraction.evidence import Finder, evidence_json
from llm.extraction.fields import problems_of
from llm.extraction_pages import pages_of
from llm.models import ExtractionJob
from mlops.exceptions import NotAllowed
from mlops.models import User


class ExtractionConflict(NotAllowed):
    """Somebody else was there first; `job` is the extraction as it is now."""

    code = "extraction_changed"

    def __init__(self, message: str, *, job: ExtractionJob, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.job = job


def value_change(
    *, job: ExtractionJob, user: User, version: int, path: str, value: Any
) -> ExtractionJob:
    """Another value at a JSON pointer; a text is brought to the type that the schema asks for.

    Raises ExtractionConflict if the row changed after `version` or is accepted, ApplicationError
    for a value or a place that the schema does not know.
    """
    with transaction.atomic():
        now = _open_row(job, version)
        value = typed_value(value, path=path, schema=now.schema)
        now.corrected = with_value(copy.deepcopy(now.final), path, value)
        now.problems = list(problems_of(now.corrected, now.schema))
        evidence = {key: place for key, place in now.evidence.items() if key != path}
        if value not in (None, "") and not isinstance(value, bool | dict | list):
            found = Finder(pages_of(now)).find(value, tuple(path.split("/")[1:]))
            if found is not None:
                evidence[path] = evidence_json(found)
        now.evidence = evidence
        return _changed(now, user)


def extraction_accept(*, job: ExtractionJob, user: User, version: int) -> ExtractionJob:
    """Vouches for the values as they were in `version`. Raises ExtractionConflict."""
    with transaction.atomic():
        now = _open_row(job, version)
        now.accepted_at = timezone.now()
        return _changed(now, user)


def extraction_reopen(*, job: ExtractionJob, user: User) -> ExtractionJob:
    """Lets accepted values be changed again; the corrections stay."""
    with transaction.atomic():
        now = _locked(job)
        if now.accepted_at is None:
            return now
        now.accepted_at = None
        return _changed(now, user)


def _locked(job: ExtractionJob) -> ExtractionJob:
    rows = ExtractionJob.objects.select_for_update(of=("self",))
    return rows.select_related("reviewer", "document", "ocr_job", "template").get(pk=job.pk)


def _open_row(job: ExtractionJob, version: int) -> ExtractionJob:
    now = _locked(job)
    if now.values is None:
        raise NotAllowed(f"The extraction is {now.status}: there are no values.", code="no_values")
    if now.accepted_at is not None:
        raise ExtractionConflict(
            f"The values were accepted by {now.reviewer or 'somebody'}. Reopen them to change any.",
            job=now,
            code="accepted",
        )
    if now.version != version:
        raise ExtractionConflict(
            f"{now.reviewer or 'Somebody'} has changed the values meanwhile. Look at them once "
            "more.",
            job=now,
        )
    return now


def _changed(now: ExtractionJob, user: User) -> ExtractionJob:
    """Writes what a person may change, and nothing that a worker may be writing."""
    now.version += 1
    now.reviewer = user
    fields = ("corrected", "problems", "evidence", "version", "reviewer_id", "accepted_at")
    ExtractionJob.objects.filter(pk=now.pk).update(**{name: getattr(now, name) for name in fields})
    return now
