"""What each worker says of itself: that it lives, on which queues, with how much room.

A field of a Redis hash a worker, written in each round of its maintenance; who writes no more is
gone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.conf import settings
from prometheus_client.core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from mlops.jobs import worker_name
from mlops.metrics import machine, store
from mlops.metrics.machine import Gpu, Room

log = structlog.get_logger(__name__)

KEY = "mlops:metrics:workers"
# The driver's program takes tenths of a second.
GPU_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """A worker's word of itself; `at` is Redis' time."""

    worker: str
    queues: list[str]
    at: float
    memory: Room | None = None
    disks: dict[str, Room] = field(default_factory=dict)
    gpus: list[Gpu] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: bytes) -> Told:
        given: dict[str, Any] = json.loads(text)
        return cls(
            worker=given["worker"],
            queues=given["queues"],
            at=given["at"],
            memory=given["memory"] and Room(**given["memory"]),
            disks={name: Room(**room) for name, room in given["disks"].items()},
            gpus=[Gpu(**{**gpu, "memory": Room(**gpu["memory"])}) for gpu in given["gpus"]],
        )


class _Gpus:
    """The GPUs as they were looked at last."""

    seen: list[Gpu]
    at = -math.inf

    @classmethod
    def lately(cls) -> list[Gpu]:
        if time.monotonic() - cls.at > GPU_SECONDS:
            cls.seen, cls.at = machine.gpus(), time.monotonic()
        return cls.seen


def tell(queues: list[str]) -> None:
    """A step of each round of a worker on these queues."""
    redis = store.client()
    if redis is None:
        return
    name = worker_name()
    try:
        told = Told(
            worker=name,
            queues=sorted(queues),
            at=redis.time()[0],
            memory=machine.memory(),
            disks=machine.disks(),
            gpus=_Gpus.lately(),
        )
        redis.hset(KEY, name, told.text())
    except RedisError as error:
        log.debug("worker_not_told", error=str(error))


def living() -> list[Told]:
    """Those that have been heard of lately; the others are forgotten. Raises RedisError."""
    redis = store.client()
    if redis is None:
        return []
    since = redis.time()[0] - max(30.0, 6 * settings.MAINTENANCE_SECONDS)
    told = [Told.parse(text) for text in redis.hgetall(KEY).values()]
    gone = [one.worker for one in told if one.at < since]
    if gone:
        redis.hdel(KEY, *gone)
    return [one for one in told if one.at >= since]


def families(told: list[Told]) -> Iterator[Metric]:
    """As Prometheus is told of them."""
    count = GaugeMetricFamily(
        "mlops_queue_workers", "Workers alive that consume the queue.", labels=["queue"]
    )
    for queue in settings.QUEUES:
        count.add_metric([queue], sum(queue in one.queues for one in told))
    yield count

    labels = ["worker", "queues"]
    used = GaugeMetricFamily(
        "mlops_worker_memory_used_bytes",
        "Memory in use in the worker's container, else on its machine, without spare file caches.",
        labels=labels,
    )
    limit = GaugeMetricFamily(
        "mlops_worker_memory_limit_bytes",
        "What the worker's container may use, else what its machine has.",
        labels=labels,
    )
    disk_free = GaugeMetricFamily(
        "mlops_worker_disk_free_bytes",
        "Room where the worker keeps files: media (the platform's), work, training.",
        labels=[*labels, "folder"],
    )
    disk_size = GaugeMetricFamily(
        "mlops_worker_disk_size_bytes",
        "The size of the disk that the folder is on.",
        labels=[*labels, "folder"],
    )
    gpu_labels = [*labels, "gpu", "uuid"]
    gpu_used = GaugeMetricFamily(
        "mlops_worker_gpu_memory_used_bytes",
        "Memory in use, by whomever, on a GPU that the worker sees.",
        labels=gpu_labels,
    )
    gpu_size = GaugeMetricFamily(
        "mlops_worker_gpu_memory_size_bytes", "Memory of the GPU.", labels=gpu_labels
    )
    gpu_busy = GaugeMetricFamily(
        "mlops_worker_gpu_busy_ratio", "Share of time in which the GPU computes.", labels=gpu_labels
    )
    for one in told:
        values = [one.worker, ",".join(one.queues)]
        if one.memory is not None:
            used.add_metric(values, one.memory.used)
            limit.add_metric(values, one.memory.size)
        for folder, room in one.disks.items():
            disk_free.add_metric([*values, folder], room.size - room.used)
            disk_size.add_metric([*values, folder], room.size)
        for gpu in one.gpus:
            gpu_values = [*values, gpu.index, gpu.uuid]
            gpu_used.add_metric(gpu_values, gpu.memory.used)
            gpu_size.add_metric(gpu_values, gpu.memory.size)
            gpu_busy.add_metric(gpu_values, gpu.busy)
    yield from (used, limit, disk_free, disk_size, gpu_used, gpu_size, gpu_busy)
