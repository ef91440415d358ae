"""`Idempotency-Key` on requests that make a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.http import QueryDict
from rest_framework.request import Request

from mlops import idempotency
from mlops.models import Job

J = TypeVar("J", bound=Job)


def once(request: Request, make: Callable[[], J]) -> tuple[J | Job, dict[str, str]]:
    """(job, headers of the answer): made now, or by an earlier request with the same key.

    Raises ApplicationError as `idempotency.once` does.
    """
    key = request.headers.get("Idempotency-Key", "")
    if not key:
        return make(), {}
    fields = [(name, str(value)) for name, value in _fields(request)]
    files = [file for name in sorted(request.FILES) for file in request.FILES.getlist(name)]
    job, replayed = idempotency.once(
        make,
        owner=request.user,
        key=key,
        fingerprint=idempotency.fingerprint(request.path.rstrip("/"), fields, files),
    )
    return job, {"Idempotent-Replayed": "true"} if replayed else {}


def _fields(request: Request) -> list[tuple[str, object]]:
    """What was sent, but for the files, which are compared by their content."""
    data = request.data
    if not isinstance(data, QueryDict):
        return list(data.items()) if isinstance(data, dict) else [("", data)]
    return [
        (name, value)
        for name, values in data.lists()
        if name not in request.FILES
        for value in values
    ]
