"""Tells workers at once that a request is to stop; its row says so too, for who misses it."""

from __future__ import annotations

from functools import cache

import structlog
from django.conf import settings
from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from llm.relay.redis import CANCELS, client
from mlops import bell

log = structlog.get_logger(__name__)

WITHOUT_REDIS_SECONDS = 0.25
WITH_REDIS_SECONDS = 2.0


def tell(request: str) -> None:
    """Never fails: workers look at their requests' rows now and then."""
    if not bell.rings():
        return
    try:
        _client(settings.CELERY_BROKER_URL).publish(CANCELS, request)
    except RedisError as error:
        log.debug("cancel_not_told", error=str(error))


@cache
def _client(url: str) -> Redis:
    return client()


class Cancels:
    """The worker's ear; `wait` returns the requests that were told of."""

    def __init__(self) -> None:
        self._channel: PubSub | None = None

    @property
    def look_seconds(self) -> float:
        """How often the rows of open requests are to be looked at."""
        return WITH_REDIS_SECONDS if self._channel is not None else WITHOUT_REDIS_SECONDS

    def wait(self, seconds: float) -> str | None:
        """The next request that is to stop; None if there is none for so long. Raises RedisError.

        Only with Redis.
        """
        if self._channel is None:
            self._channel = client().pubsub(ignore_subscribe_messages=True)
            self._channel.subscribe(CANCELS)
        message = self._channel.get_message(timeout=seconds)
        return message["data"].decode() if message is not None else None

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
