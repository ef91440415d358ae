"""The Redis in which processes put down what they count; it is the broker's."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from redis import Redis

from mlops import bell

PATIENCE_SECONDS = 2.0


def client() -> Redis | None:
    """None where the broker is no Redis: a process then knows of itself alone."""
    return _client(settings.CELERY_BROKER_URL) if bell.rings() else None


@cache
def _client(url: str) -> Redis:
    return Redis.from_url(
        url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
    )
