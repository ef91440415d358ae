"""A worker is killed in the middle of a batch; the next one goes on, and answers nothing twice."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.services import PostgresServer, RedisServer, wait_for
from tests.stack import Stack, end

pytestmark = pytest.mark.faults

# A word takes this long, so that a batch lasts for seconds.
ENGINES = {"fake": {"BACKEND": "tests.fakes.FakeLanguageEngine", "OPTIONS": {"delay": 0.02}}}
LINES = 80


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        Stack(
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
            LLM_ENGINES=json.dumps(ENGINES),
            LLM_BATCH_WINDOW="4",
        ) as stack,
    ):
        stack.web()
        model = {"name": "echo", "engine": "fake", "source": "echo"}
        answer = stack.client.post("/api/v1/llm/models/", json=model)
        assert answer.status_code == 201, answer.text
        yield stack


def submit(stack: Stack) -> str:
    content = "\n".join(
        json.dumps(
            {
                "custom_id": f"n{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": "echo",
                    "messages": [{"role": "user", "content": f"count {3 + n % 5}"}],
                },
            }
        )
        for n in range(LINES)
    )
    file = stack.client.post(
        "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
    ).json()
    batch = stack.client.post(
        "/v1/batches",
        json={
            "input_file_id": file["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        },
    )
    assert batch.status_code == 200, batch.text
    return batch.json()["id"]


def batch_of(stack: Stack, batch: str) -> dict[str, Any]:
    return stack.client.get(f"/v1/batches/{batch}").json()


def answered(stack: Stack) -> dict[str, str]:
    """What stands in the rows: the answer's id by the request's."""
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        rows = connection.execute(
            "SELECT custom_id, answer FROM llm_batchline WHERE state = 'done'"
        ).fetchall()
    return {custom_id: json.loads(answer)["id"] for custom_id, answer in rows}


def output(stack: Stack, batch: dict[str, Any]) -> list[dict[str, Any]]:
    text = stack.client.get(f"/v1/files/{batch['output_file_id']}/content").text
    return [json.loads(line) for line in text.splitlines()]


def test_worker_killed_in_mid_batch(stack: Stack) -> None:
    victim = stack.llm_worker("victim")
    batch = submit(stack)
    assert wait_for(lambda: len(answered(stack)) >= 10, 60), stack.logs()
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    before = answered(stack)
    assert 10 <= len(before) < LINES

    second = stack.llm_worker("second")
    assert wait_for(lambda: batch_of(stack, batch)["status"] == "completed", 90), stack.logs()
    done = batch_of(stack, batch)
    assert done["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
    found = output(stack, done)
    assert [one["custom_id"] for one in found] == [f"n{n}" for n in range(LINES)]
    ids = {one["custom_id"]: one["response"]["body"]["id"] for one in found}
    assert {name: ids[name] for name in before} == before, "none of them was answered again"
    assert len(set(ids.values())) == LINES
    for number, one in enumerate(found):
        text = one["response"]["body"]["choices"][0]["message"]["content"]
        assert text == " ".join(str(n) for n in range(1, 4 + number % 5))
    with psycopg.connect(stack.env["DATABASE_URL"]) as connection:
        [(requests,)] = connection.execute("SELECT sum(requests) FROM llm_usage").fetchall()
    assert requests == LINES
    end(second)


def test_cancelled_while_no_worker_is_there(stack: Stack) -> None:
    """What was answered before the worker was killed is kept, and written by the next one."""
    victim = stack.llm_worker("killed")
    batch = submit(stack)
    assert wait_for(lambda: len(answered(stack)) >= 5, 60), stack.logs()
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    before = answered(stack)
    assert stack.client.post(f"/v1/batches/{batch}/cancel").json()["status"] == "cancelling"
    heir = stack.llm_worker("heir")
    assert wait_for(lambda: batch_of(stack, batch)["status"] == "cancelled", 90), stack.logs()
    ids = {
        one["custom_id"]: one["response"]["body"]["id"]
        for one in output(stack, batch_of(stack, batch))
    }
    assert ids == before
    end(heir)
