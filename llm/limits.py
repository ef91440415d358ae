"""What one caller may use: requests and tokens a minute, and tokens a day.

Minutes are counted in Redis, for all web processes; without it in this one's memory. Days are
counted in `Usage` rows, which workers write.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import structlog
from django.conf import settings
from django.db.models import F, Sum
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from llm.models import Usage
from mlops import bell
from mlops.exceptions import ApplicationError
from mlops.models import ApiKey, User

log = structlog.get_logger(__name__)

REDIS_PATIENCE_SECONDS = 2.0


class LimitReached(ApplicationError):
    """`retry_after`: seconds until it may work; `transient`: whether that is soon."""

    def __init__(self, message: str, *, code: str, retry_after: float, transient: bool) -> None:
        super().__init__(message, code=code, status=429)
        self.retry_after, self.transient = retry_after, transient


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a user with an API key, or one who is logged in."""

    user: User
    key: ApiKey | None

    @property
    def identity(self) -> str:
        return f"key-{self.key.pk[:32]}" if self.key is not None else f"user-{self.user.pk}"

    def limit(self, name: str) -> int:
        """`name` as the key has it; 0: none."""
        own = getattr(self.key, name) if self.key is not None else None
        return getattr(settings, f"LLM_{name.upper()}") if own is None else own


def admit(caller: Caller) -> dict[str, str]:
    """Counts one request; returns the `x-ratelimit-*` headers. Raises LimitReached.

    With a Redis that is away nothing is limited: requests are to be answered then, too.
    """
    _day_check(caller)
    try:
        return {**_tokens_check(caller), **_request_count(caller)}
    except StorageError as error:
        log.warning("limits_not_counted", error=str(error))
        return {}


def spend(caller: Caller, tokens: int) -> None:
    """Counts what an answer took, once it is known."""
    most = caller.limit("tokens_per_minute")
    if not most or not tokens:
        return
    try:
        _minutes().fixed.hit(RateLimitItemPerMinute(most), "tokens", caller.identity, cost=tokens)
    except StorageError as error:
        log.warning("limits_not_counted", error=str(error))


def _request_count(caller: Caller) -> dict[str, str]:
    most = caller.limit("requests_per_minute")
    if not most:
        return {}
    item = RateLimitItemPerMinute(most)
    window = _minutes().sliding
    admitted = window.hit(item, "requests", caller.identity)
    stats = window.get_window_stats(item, "requests", caller.identity)
    if not admitted:
        _refuse("requests", most, stats.reset_time)
    return _headers("requests", most, stats.remaining, stats.reset_time)


def _tokens_check(caller: Caller) -> dict[str, str]:
    most = caller.limit("tokens_per_minute")
    if not most:
        return {}
    stats = _minutes().fixed.get_window_stats(
        RateLimitItemPerMinute(most), "tokens", caller.identity
    )
    if stats.remaining <= 0:
        _refuse("tokens", most, stats.reset_time)
    return _headers("tokens", most, stats.remaining, stats.reset_time)


def _day_check(caller: Caller) -> None:
    most = caller.limit("tokens_per_day")
    if not most:
        return
    now = datetime.now(UTC)
    used = Usage.objects.filter(day=now.date(), api_key=caller.key)
    if caller.key is None:
        used = used.filter(owner=caller.user)
    total = used.aggregate(total=Sum(F("prompt_tokens") + F("completion_tokens")))["total"] or 0
    if total < most:
        return
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    raise LimitReached(
        f"{total} of today's {most} tokens are used up. The count starts anew at midnight UTC; "
        "the operator can raise the key's tokens_per_day.",
        code="insufficient_quota",
        retry_after=(midnight - now).total_seconds(),
        transient=False,
    )


def _refuse(what: str, most: int, reset_time: float) -> None:
    seconds = max(1.0, reset_time - time.time())
    raise LimitReached(
        f"More than {most} {what} in a minute. Try again in {math.ceil(seconds)} s, or ask the "
        f"operator to raise the key's {what}_per_minute.",
        code="rate_limit_exceeded",
        retry_after=seconds,
        transient=True,
    )


def _headers(what: str, most: int, remaining: int, reset_time: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(most),
        f"x-ratelimit-remaining-{what}": str(max(0, remaining)),
        f"x-ratelimit-reset-{what}": f"{max(0.0, reset_time - time.time()):.1f}s",
    }


class _Minutes:
    """The windows: sliding for requests, fixed for tokens, which are counted after the fact."""

    def __init__(self, uri: str) -> None:
        options = {"socket_timeout": REDIS_PATIENCE_SECONDS} if uri != "memory://" else {}
        storage = storage_from_string(uri, wrap_exceptions=True, **options)
        self.sliding = SlidingWindowCounterRateLimiter(storage)
        self.fixed = FixedWindowRateLimiter(storage)


@lru_cache(maxsize=1)
def _windows(uri: str) -> _Minutes:
    return _Minutes(uri)


def _minutes() -> _Minutes:
    return _windows(settings.CELERY_BROKER_URL if bell.rings() else "memory://")
