"""Reply streams in Redis."""

from __future__ import annotations

import contextlib
import time

import structlog
from django.conf import settings
from redis import Redis
from redis import asyncio as async_redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

# More than a reader is ever behind by; a stream without a writer vanishes.
KEEP_ENTRIES = 10_000
EXPIRE_SECONDS = 600
PATIENCE_SECONDS = 5.0
BLOCK_SECONDS = 1.0
AGAIN_SECONDS = 0.1
READ_ENTRIES = 500
# How often what has been read is cut off.
TRIM_SECONDS = 5.0

CANCELS = "llm:cancels"


class RedisWriter:
    # Long enough for a step's events of all requests to be written together.
    pause = 0.0005

    def __init__(self) -> None:
        self._redis = client()

    def write(self, entries: list[tuple[str, str]]) -> bool:
        pipe = self._redis.pipeline(transaction=False)
        for stream, entry in entries:
            pipe.xadd(stream, {"e": entry}, maxlen=KEEP_ENTRIES, approximate=True)
        for stream in {stream for stream, _entry in entries}:
            pipe.expire(stream, EXPIRE_SECONDS)
        try:
            pipe.execute()
        except RedisError as error:
            log.warning("relay_not_written", error=str(error), entries=len(entries))
            return False
        return True


class RedisReader:
    """Reads one stream; knows where it was, so that a lost connection loses no entry."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._last = b"0-0"
        self._trim_at = 0.0
        self._redis: async_redis.Redis | None = None

    async def read(self) -> list[bytes]:
        """What has come since; waits a second at most."""
        if self._redis is None:
            self._redis = async_redis.from_url(
                settings.CELERY_BROKER_URL,
                socket_timeout=BLOCK_SECONDS + PATIENCE_SECONDS,
                socket_connect_timeout=PATIENCE_SECONDS,
                # Its answers have one form in all versions of the library.
                protocol=2,
            )
        found = await self._redis.xread(
            {self._stream: self._last}, count=READ_ENTRIES, block=int(BLOCK_SECONDS * 1000)
        )
        if not found:
            return []
        [(_stream, rows)] = found
        self._last = rows[-1][0]
        if time.monotonic() > self._trim_at:
            self._trim_at = time.monotonic() + TRIM_SECONDS
            await self._redis.xtrim(self._stream, minid=self._last)
        return [fields[b"e"] for _id, fields in rows]

    async def close(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            with contextlib.suppress(RedisError, OSError):
                await redis.aclose()


def client() -> Redis:
    return Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
    )
