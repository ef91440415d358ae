"""Limits of a key: counted, told in headers, refused in OpenAI's words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import openai
import pytest

from llm import limits
from llm.limits import Caller, LimitReached
from llm.models import Usage
from llm.usage import usage_add
from mlops.models import ApiKey, User
from tests.llm.service import service
from tests.services import RedisServer, wait_for


@pytest.fixture(params=["memory", "redis"])
def minutes(request: pytest.FixtureRequest, settings) -> Iterator[None]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.wipe()
        settings.CELERY_BROKER_URL = server.url
    limits._windows.cache_clear()
    yield
    limits._windows.cache_clear()


@pytest.fixture
def caller(db) -> Caller:
    user = User.objects.create_user("kim", password="a-long-password")
    return Caller(user, ApiKey.objects.create(user=user)[0])


def with_limits(caller: Caller, **fields: int) -> Caller:
    for name, value in fields.items():
        setattr(caller.key, name, value)
    return caller


def test_requests_a_minute(caller: Caller, minutes: None) -> None:
    with_limits(caller, requests_per_minute=2)
    assert limits.admit(caller)["x-ratelimit-remaining-requests"] == "1"
    headers = limits.admit(caller)
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    with pytest.raises(LimitReached) as caught:
        limits.admit(caller)
    error = caught.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert 1 <= error.retry_after <= 60 and error.transient

    # Another key has its own count.
    other, _token = ApiKey.objects.create(user=caller.user)
    limits.admit(with_limits(Caller(caller.user, other), requests_per_minute=2))


def test_tokens_a_minute(caller: Caller, minutes: None) -> None:
    with_limits(caller, tokens_per_minute=100)
    assert limits.admit(caller)["x-ratelimit-remaining-tokens"] == "100"
    limits.spend(caller, 99)
    assert limits.admit(caller)["x-ratelimit-remaining-tokens"] == "1"
    limits.spend(caller, 50)
    with pytest.raises(LimitReached) as caught:
        limits.admit(caller)
    assert caught.value.code == "rate_limit_exceeded" and "100 tokens" in caught.value.message


def test_tokens_a_day(caller: Caller, minutes: None) -> None:
    with_limits(caller, tokens_per_day=100)
    used = {"owner": caller.user.pk, "api_key": caller.key.pk, "model": None}
    usage_add(**used, prompt_tokens=60, completion_tokens=39)
    limits.admit(caller)
    usage_add(**used, prompt_tokens=1, completion_tokens=0)
    with pytest.raises(LimitReached) as caught:
        limits.admit(caller)
    error = caught.value
    assert (error.status, error.code) == (429, "insufficient_quota") and not error.transient
    # Another day's count is another day's.
    Usage.objects.update(day=datetime.now(UTC).date() - timedelta(days=1))
    limits.admit(caller)


def test_settings_hold_for_keys_without_their_own(caller: Caller, minutes, settings) -> None:
    settings.LLM_REQUESTS_PER_MINUTE = 1
    limits.admit(caller)
    with pytest.raises(LimitReached):
        limits.admit(caller)
    limits.admit(with_limits(caller, requests_per_minute=0))


def test_a_redis_that_is_away_limits_nothing(caller: Caller, settings) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    assert limits.admit(with_limits(caller, requests_per_minute=1)) == {}


def test_usage_is_one_row_a_day_and_model(caller: Caller) -> None:
    for _request in range(3):
        usage_add(
            owner=caller.user.pk, api_key=None, model=None, prompt_tokens=2, completion_tokens=1
        )
    row = Usage.objects.get()
    assert (row.requests, row.prompt_tokens, row.completion_tokens) == (3, 6, 3)
    assert row.day == datetime.now(UTC).date()


@pytest.mark.django_db(transaction=True)
def test_as_a_client_sees_it(settings) -> None:
    limits._windows.cache_clear()
    with service(settings) as served:
        served.model("echo")
        ApiKey.objects.update(requests_per_minute=3, tokens_per_minute=1000, tokens_per_day=8)
        ask = {"model": "echo", "messages": [{"role": "user", "content": "one two three four"}]}
        raw = served.client().chat.completions.with_raw_response.create(**ask)
        assert raw.headers["x-ratelimit-remaining-requests"] == "2"
        assert raw.headers["x-ratelimit-limit-tokens"] == "1000"
        served.job()
        with pytest.raises(openai.RateLimitError) as caught:
            served.client().chat.completions.create(**ask)
        assert caught.value.code == "insufficient_quota"
        assert caught.value.response.headers["x-should-retry"] == "false"

        ApiKey.objects.update(tokens_per_day=None)
        caller = Caller(served.user, ApiKey.objects.get())
        left = "x-ratelimit-remaining-tokens"
        assert wait_for(lambda: limits._tokens_check(caller)[left] == "992")
        with pytest.raises(openai.RateLimitError) as caught:
            for _request in range(3):
                served.client().chat.completions.create(**ask)
        assert caught.value.code == "rate_limit_exceeded"
        assert int(caught.value.response.headers["retry-after"]) >= 1
