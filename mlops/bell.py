"""Rings when a job has moved, so that who waits for it looks at its row at once.

Over Redis, where that is the broker; elsewhere nothing rings and who waits looks often. A ring that
is lost costs a fraction of a second: the row is the truth, and it is looked at now and then anyway.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import AsyncIterator
from functools import cache

import structlog
from django.conf import settings
from redis import Redis
from redis import asyncio as async_redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

CHANNEL = "mlops:jobs-moved"
# A job must not be slowed by a Redis that hangs: after a failure nothing is rung for a while.
PATIENCE_SECONDS = 1.0
SILENT_SECONDS = 5.0


def rings() -> bool:
    """Whether this installation has a bell."""
    return settings.CELERY_BROKER_URL.startswith(("redis://", "rediss://"))


class Bell:
    """The ringing side, one a process."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
        )
        self._silent_until = 0.0
        self._lock = threading.Lock()

    def ring(self, pk: uuid.UUID) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            self._redis.publish(CHANNEL, str(pk))
        except RedisError as error:
            with self._lock:
                self._silent_until = time.monotonic() + SILENT_SECONDS
            log.debug("bell_silent", error=str(error))


@cache
def _bell(url: str) -> Bell:
    return Bell(url)


def ring(pk: uuid.UUID) -> None:
    """Tells who waits that the job's row has changed; never fails and never waits for long."""
    if rings():
        _bell(settings.CELERY_BROKER_URL).ring(pk)


async def heard() -> AsyncIterator[uuid.UUID | None]:
    """The jobs that are rung for, from now on; None once the bell can be heard.

    Raises RedisError when Redis goes away.
    """
    async with (
        async_redis.from_url(settings.CELERY_BROKER_URL) as redis,
        redis.pubsub(ignore_subscribe_messages=True) as channel,
    ):
        await channel.subscribe(CHANNEL)
        yield None
        async for message in channel.listen():
            yield uuid.UUID(message["data"].decode())
