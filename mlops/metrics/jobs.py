"""What job rows tell: how many wait and run, for how long, and whether anybody works on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Min, Q
from django.db.models.functions import Coalesce
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric

from mlops import selectors
from mlops.metrics import http
from mlops.metrics.ends import JOB_SECONDS, JOBS_ENDED
from mlops.metrics.sources import Source
from mlops.models import Job


def rows() -> Iterator[Metric]:
    """Every queue has its figures, also while nothing waits there: alerts need the zeros."""
    yield from _unfinished()
    seen = selectors.queues_seen(settings.QUEUES)
    alive = GaugeMetricFamily(
        "mlops_queue_seen",
        "1 while somebody consumes the queue: a sign of life, or a job that runs.",
        labels=["queue"],
    )
    for queue in settings.QUEUES:
        alive.add_metric([queue], queue in seen)
    yield alive
    yield from _tracking()


def _unfinished() -> Iterator[Metric]:
    due = Q(status=Job.Status.QUEUED, after=None, held=False)
    groups = (
        Job.objects.unfinished()
        .order_by()
        .values_list("kind", "queue", "status")
        .annotate(
            count=Count("pk"),
            count_due=Count("pk", filter=due),
            since=Min(Coalesce("sent_at", "created_at"), filter=due),
        )
    )
    jobs = GaugeMetricFamily(
        "mlops_jobs", "Jobs that have not ended.", labels=["kind", "queue", "status"]
    )
    waiting: dict[str, int] = defaultdict(int)
    oldest: dict[str, datetime] = {}
    for kind, queue, status, count, count_due, since in groups:
        jobs.add_metric([kind, queue, status], count)
        waiting[queue] += count_due
        if since is not None:
            oldest[queue] = min(since, oldest.get(queue, since))
    yield jobs
    depth = GaugeMetricFamily(
        "mlops_queue_due_jobs",
        "Queued jobs that wait for nothing but a worker: neither paused nor after another job.",
        labels=["queue"],
    )
    age = GaugeMetricFamily(
        "mlops_queue_oldest_due_seconds",
        "How long the first of them has waited since it was sent; 0 if none waits.",
        labels=["queue"],
    )
    now = timezone.now()
    for queue in sorted({*settings.QUEUES, *waiting}):
        depth.add_metric([queue], waiting[queue])
        age.add_metric([queue], max(0.0, (now - oldest.get(queue, now)).total_seconds()))
    yield from (depth, age)


def _tracking() -> Iterator[Metric]:
    pending = Job.objects.filter(tracking=Job.Tracking.PENDING).order_by()
    found = pending.aggregate(count=Count("pk"), since=Min("finished_at"))
    yield GaugeMetricFamily(
        "mlops_tracking_pending_jobs",
        "Ended jobs that MLflow has not been told of.",
        value=found["count"],
    )
    since = found["since"]
    yield GaugeMetricFamily(
        "mlops_tracking_lag_seconds",
        "How long ago the first of them ended; 0 if there is none.",
        value=max(0.0, (timezone.now() - since).total_seconds()) if since else 0,
    )


SOURCE = Source(counted=(JOBS_ENDED, JOB_SECONDS, http.REQUESTS, http.SECONDS), rows=rows)
