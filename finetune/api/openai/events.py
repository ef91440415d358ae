"""A job's events and the points of its curves as one list, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from finetune.api.openai.objects import POINT, event_object, point_object
from finetune.models import TrainingJob
from llm.api.openai_view import not_found

PREFIX = "ftevent-"


def events_page(job: TrainingJob, after: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    """`limit` events after the event `after`, and whether there are more. Of two of the same
    moment a point comes later. Raises ApplicationError for an `after` that isn't there."""
    events, points = job.events.all(), job.metrics.all()
    if after:
        at, number, is_point = _place(job, after)
        older_event = Q(created_at__lt=at)
        older_event |= Q(created_at=at) if is_point else Q(created_at=at, pk__lt=number)
        events = events.filter(older_event)
        older_point = Q(at__lt=at)
        points = points.filter(older_point | Q(at=at, pk__lt=number) if is_point else older_point)
    found = [
        ((event.created_at, 0, event.pk), event_object(event))
        for event in _first(events, "created_at", limit)
    ]
    found += [
        ((point.at, 1, point.pk), point_object(point, job.progress_total))
        for point in _first(points, "at", limit)
    ]
    found.sort(key=lambda one: one[0], reverse=True)
    return [shown for _place, shown in found[:limit]], len(found) > limit


def _first(rows: QuerySet[Any], moment: str, limit: int) -> QuerySet[Any]:
    return rows.order_by(f"-{moment}", "-pk")[: limit + 1]


def _place(job: TrainingJob, name: str) -> tuple[datetime, int, bool]:
    text = name.removeprefix(PREFIX)
    is_point = text.startswith(POINT)
    number = text.removeprefix(POINT)
    row = None
    if name.startswith(PREFIX) and number.isdecimal() and len(number) < 19:
        row = (job.metrics if is_point else job.events).filter(pk=int(number)).first()
    if row is None:
        raise not_found("event", name, param="after")
    return (row.at if is_point else row.created_at), row.pk, is_point
