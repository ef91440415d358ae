"""The page itself: all sources, and which parts of the platform answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils.module_loading import import_string
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from mlops import queues
from mlops.metrics import counting, workers
from mlops.metrics.sources import Source

log = structlog.get_logger(__name__)


class Platform:
    """prometheus_client's kind of collector: asked at each look at the page."""

    def collect(self) -> Iterator[Metric]:
        """What can't be found out is left out, and `mlops_up` says why."""
        started = time.perf_counter()
        sources: list[Source] = [import_string(path) for path in settings.METRIC_SOURCES]
        up = GaugeMetricFamily(
            "mlops_up",
            "1 if the web process reaches the database, the broker.",
            labels=["part"],
        )
        up.add_metric(["broker"], int((yield from _broker(sources))))
        up.add_metric(["database"], int((yield from _database(sources))))
        yield up
        yield GaugeMetricFamily(
            "mlops_metrics_seconds",
            "What it took to find all of this out.",
            value=time.perf_counter() - started,
        )


def _broker(sources: list[Source]) -> Iterator[Metric]:
    """What is counted and told in Redis, and the messages that wait; whether it answers."""
    try:
        depths = queues.depths(list(settings.QUEUES))
        counted, told = counting.everything(), workers.living()
    except (*queues.BROKER_ERRORS, RedisError) as error:
        log.warning("metrics_without_broker", error=str(error))
        return False
    messages = GaugeMetricFamily(
        "mlops_broker_messages", "Messages that wait in the broker.", labels=["queue"]
    )
    for queue, depth in depths.items():
        messages.add_metric([queue], depth)
    yield messages
    yield from workers.families(told)
    for source in sources:
        for figure in source.counted:
            yield figure.family(counted)
    return True


def _database(sources: list[Source]) -> Iterator[Metric]:
    """What rows tell; whether the database answers."""
    try:
        # One that is away keeps us waiting, once is enough.
        connection.ensure_connection()
        for source in sources:
            yield from list(source.rows())
    except DatabaseError as error:
        log.warning("metrics_without_database", error=str(error))
        return False
    return True


def text() -> bytes:
    """In Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(Platform())
    return generate_latest(registry)
