"""Workers, brokers and clients go at the worst moment; no stream ends in silence."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest

from tests.services import PostgresServer, RedisServer, wait_for
from tests.stack import Stack, end

pytestmark = pytest.mark.faults

ENGINE = "tests.fakes.FakeLanguageEngine"
# Words a second: the slow model has hundreds of seconds' worth of them in each of these tests.
SLOW = {"BACKEND": ENGINE, "OPTIONS": {"delay": 0.01}}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "gate"


@pytest.fixture(scope="module")
def stack(redis: RedisServer, gate: Path) -> Iterator[Stack]:
    engines = {"slow": SLOW, "gated": {"BACKEND": ENGINE, "OPTIONS": {"gate": str(gate)}}}
    with (
        PostgresServer() as postgres,
        Stack(
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
            LLM_ENGINES=json.dumps(engines),
            LLM_SILENT_SECONDS="6",
            LLM_STOP_SECONDS="1",
            ENGINES_PRELOAD="",
        ) as stack,
    ):
        stack.web()
        for name in engines:
            body = {"name": name, "engine": name, "source": "x"}
            assert stack.client.post("/api/v1/llm/models/", json=body).status_code == 201
        yield stack


@pytest.fixture
def worker(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Any]:
    process = stack.llm_worker(request.node.originalname)
    yield process
    end(process)


def options(stack: Stack) -> dict[str, Any]:
    key = stack.client.headers["Authorization"].removeprefix("Bearer ")
    return {"base_url": f"http://127.0.0.1:{stack.port}/v1", "api_key": key, "max_retries": 0}


def streamed(stack: Stack, prompt: str, then: Callable[[], object] = lambda: None) -> str:
    """The text of a slow stream; `then` is done once a few words of it have come."""
    text, seen = "", 0
    with openai.OpenAI(**options(stack), timeout=100) as client:
        for chunk in client.chat.completions.create(
            model="slow", messages=[{"role": "user", "content": prompt}], stream=True
        ):
            text += chunk.choices[0].delta.content or ""
            seen += 1
            if seen == 4:
                then()
    return text


def numbers(count: int) -> str:
    return " ".join(str(number) for number in range(1, count + 1))


def rows(stack: Stack, query: str) -> list[tuple]:
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        return connection.execute(query).fetchall()


def latest(stack: Stack) -> tuple[str, str]:
    query = "SELECT status, error_code FROM mlops_job ORDER BY created_at DESC LIMIT 1"
    return rows(stack, query)[0]


def test_worker_killed_in_mid_stream(stack: Stack, worker) -> None:
    """Killed from outside; the next one is killed by a fault in its own engine."""

    def kill() -> None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    with pytest.raises(openai.APIError) as caught:
        streamed(stack, "count 100000", kill)
    assert caught.value.code == "worker_lost" and "again" in caught.value.message
    assert wait_for(lambda: latest(stack) == ("failed", "worker_lost"))

    stack.llm_worker("successor")
    assert streamed(stack, "count 20") == numbers(20)
    with pytest.raises(openai.APIError) as caught:
        streamed(stack, "die 30")
    assert caught.value.code == "worker_lost"


def test_worker_told_to_stop_in_mid_stream(stack: Stack, worker) -> None:
    with pytest.raises(openai.APIError) as caught:
        streamed(stack, "count 100000", worker.terminate)
    assert caught.value.code == "worker_lost"
    assert worker.wait(30) == 0
    assert latest(stack) == ("failed", "worker_lost")


def test_what_is_not_streamed_is_answered_by_another_worker(
    stack: Stack, worker, gate: Path
) -> None:
    """Its client waits through the loss, and hears nothing of it."""
    gate.unlink(missing_ok=True)
    answers: list[str] = []

    def ask() -> None:
        with openai.OpenAI(**options(stack), timeout=100) as client:
            answer = client.chat.completions.create(
                model="gated", messages=[{"role": "user", "content": "still here"}]
            )
            answers.append(answer.choices[0].message.content)

    asking = threading.Thread(target=ask)
    asking.start()
    assert wait_for(lambda: latest(stack)[0] == "running", 60), stack.logs()
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    other = stack.llm_worker("takes-over")
    assert wait_for(
        lambda: rows(stack, "SELECT 1 FROM mlops_job WHERE status='running' AND attempts=2"), 90
    ), stack.logs()
    gate.touch()
    asking.join(90)
    assert answers == ["still here"]
    end(other)


@pytest.mark.parametrize("how", ["restart", "wipe"])
def test_redis_lost_in_mid_stream(stack: Stack, redis: RedisServer, worker, how: str) -> None:
    """The stream goes on where it was, to the last word; or its client is told that it can't."""
    try:
        assert streamed(stack, "count 500", getattr(redis, how)) == numbers(500)
    except openai.APIError as error:
        assert error.code == "worker_lost", error
    # Workers with a task in hand end themselves when Redis goes; a supervisor starts another.
    successor = stack.llm_worker(f"after-{how}")
    assert streamed(stack, "count 20") == numbers(20)
    end(successor)


def test_many_clients_and_some_that_hang_up(stack: Stack, worker) -> None:
    """Fifty at once: ten go in mid-stream, and each of the others has its own answer, whole."""
    before = len(rows(stack, "SELECT 1 FROM mlops_job WHERE status = 'cancelled'"))

    async def one(client: openai.AsyncOpenAI, number: int) -> str | None:
        leaves = number % 5 == 0
        stream = await client.chat.completions.create(
            model="slow",
            messages=[{"role": "user", "content": f"count {100_000 if leaves else 30 + number}"}],
            stream=True,
        )
        text, seen = "", 0
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            seen += 1
            if leaves and seen == 5:
                await stream.close()
                return None
        return text

    async def all_of_them() -> list[str | None]:
        async with openai.AsyncOpenAI(**options(stack), timeout=100) as client:
            return await asyncio.gather(*(one(client, number) for number in range(50)))

    for number, text in enumerate(asyncio.run(all_of_them())):
        assert text == (None if number % 5 == 0 else numbers(30 + number))
    assert wait_for(
        lambda: (
            len(rows(stack, "SELECT 1 FROM mlops_job WHERE status = 'cancelled'")) == before + 10
        ),
        60,
    )
    tokens = rows(
        stack,
        "SELECT max(completion_tokens) FROM llm_generationjob JOIN mlops_job ON id = job_ptr_id "
        "WHERE status = 'cancelled'",
    )
    assert tokens[0][0] < 50_000
    assert not rows(stack, "SELECT 1 FROM mlops_job WHERE status IN ('queued', 'running')")
