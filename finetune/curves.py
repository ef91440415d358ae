"""The points of a job's curves as pages and clients draw them: new ones, or a thinned whole."""

from __future__ import annotations

from typing import Any

from django.db.models import F, IntegerField, Max, Q
from django.db.models.functions import Cast, Mod

from finetune.models import TrainingJob, TrainingMetric

# Points of one answer.
DEFAULT, MOST = 1000, 5000


def curve_points(job: TrainingJob, *, after: int = 0, most: int = DEFAULT) -> dict[str, Any]:
    """`{points, cursor, every}`: what came after the cursor, oldest first.

    Read from the start, a long run is thinned to about `most` points: `every` is the distance in
    steps that is left then (0: nothing is left out); points with validation figures, and the last,
    always stay. A job that goes on from a checkpoint gives points again whose steps are known
    already: those, and all known ones beyond, are replaced by them.
    """
    rows = job.metrics.order_by("pk")
    every = 0
    if not after:
        every = _distance(job, most)
    if every:
        rows = rows.annotate(rest=Mod(Cast(F("step"), IntegerField()), every)).filter(
            Q(rest=0) | Q(values__has_key="eval_loss") | Q(pk=_last(job))
        )
    points = list(rows.filter(pk__gt=after)[:MOST])
    return {
        "points": [point_json(point) for point in points],
        "cursor": points[-1].pk if points else after,
        "every": every,
    }


def point_json(point: TrainingMetric) -> dict[str, Any]:
    return {
        "step": point.step,
        "epoch": round(point.epoch, 4),
        "at": round(point.at.timestamp(), 3),
        "values": point.values,
    }


def _distance(job: TrainingJob, most: int) -> int:
    """In steps, a multiple of the distance at which points are logged; 0 where all may stay."""
    count = job.metrics.count()
    if count <= most:
        return 0
    last = job.metrics.aggregate(last=Max("step"))["last"]
    logged = int(job.options.get("log_steps", 1))
    return -(-last // (most * logged)) * logged


def _last(job: TrainingJob) -> int:
    return job.metrics.order_by("-pk").values_list("pk", flat=True)[0]
