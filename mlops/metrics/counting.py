"""Figures that are counted where something happens, summed over all processes and machines.

Each process adds up in memory, and a thread of it adds the sums to a hash in Redis every few
seconds. So any web process can tell of all of them, whichever machine they are on, and nothing is
forgotten when one ends. Without Redis a process tells of itself alone.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString
from redis.exceptions import RedisError

from mlops import bell
from mlops.metrics import store

log = structlog.get_logger(__name__)

KEY = "mlops:metrics:counted"
FLUSH_SECONDS = 2.0
SUM = "sum"

# By the figure's name and its labels' values; of a histogram the last is a bucket's limit or SUM.
Counted = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Counter:
    """`name` is without the `_total` that Prometheus shows."""

    name: str
    text: str
    labels: tuple[str, ...] = ()

    def add(self, *values: str, amount: float = 1) -> None:
        """`values`: of the labels, which must be of few kinds: no ids, no paths."""
        _sums.add({(self.name, *values): amount})

    def family(self, counted: Counted) -> Metric:
        """As Prometheus is told of it."""
        found = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for (name, *values), amount in counted.items():
            if name == self.name and len(values) == len(self.labels):
                found.add_metric(values, amount)
        return found


@dataclass(frozen=True, slots=True)
class Histogram:
    """`limits`: upper ends of the buckets, rising; one without an end is added."""

    name: str
    text: str
    limits: tuple[float, ...]
    labels: tuple[str, ...] = ()

    def observe(self, *values: str, amount: float) -> None:
        """`values`: of the labels, which must be of few kinds: no ids, no paths."""
        limit = self._limits()[bisect_left(self.limits, amount)]
        _sums.add({(self.name, *values, limit): 1, (self.name, *values, SUM): amount})

    def _limits(self) -> list[str]:
        return [floatToGoString(limit) for limit in (*self.limits, math.inf)]

    def family(self, counted: Counted) -> Metric:
        """As Prometheus is told of it."""
        rows: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for (name, *values), amount in counted.items():
            if name == self.name and len(values) == len(self.labels) + 1:
                rows[tuple(values[:-1])][values[-1]] = amount
        found = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for values, row in rows.items():
            buckets, reached = [], 0.0
            for limit in self._limits():
                reached += row.get(limit, 0)
                buckets.append((limit, reached))
            found.add_metric(values, buckets, sum_value=row.get(SUM, 0))
        return found


class Sums:
    """What this process has counted and not yet put down."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A forked child begins anew: what it has inherited is its parent's to put down."""
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._sums: dict[tuple[str, ...], float] = defaultdict(float)
        self._thread: threading.Thread | None = None

    def add(self, amounts: Counted) -> None:
        with self._lock:
            for key, amount in amounts.items():
                self._sums[key] += amount
            if self._thread is None and bell.rings():
                self._thread = threading.Thread(target=self._keep, name="metrics", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(FLUSH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Puts all of it down; with a Redis that is away it is kept for the next time."""
        redis = store.client()
        if redis is None:
            return
        with self._writing:
            with self._lock:
                taken, self._sums = self._sums, defaultdict(float)
            if not taken:
                return
            pipe = redis.pipeline(transaction=True)
            for key, amount in taken.items():
                pipe.hincrbyfloat(KEY, json.dumps(key, ensure_ascii=False), amount)
            try:
                pipe.execute()
            except RedisError as error:
                log.debug("metrics_kept", error=str(error))
                with self._lock:
                    for key, amount in taken.items():
                        self._sums[key] += amount

    def all(self) -> dict[tuple[str, ...], float]:
        """This process's and, through Redis, everybody's. Raises RedisError."""
        self.flush()
        redis = store.client()
        if redis is None:
            with self._lock:
                return dict(self._sums)
        # Its answers have one form in all versions of the protocol.
        return {tuple(json.loads(key)): float(sum_) for key, sum_ in redis.hgetall(KEY).items()}


_sums = Sums()
os.register_at_fork(after_in_child=_sums.forget)
atexit.register(_sums.flush)


def everything() -> Counted:
    """What all processes have counted. Raises RedisError if Redis is away."""
    return _sums.all()


def flush() -> None:
    """Puts down at once what this process has counted."""
    _sums.flush()
