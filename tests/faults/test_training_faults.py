"""A training whose machine is lost goes on on another one, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm.tiny import random_model
from tests.e2e.conftest import CREDENTIALS, S3Server
from tests.finetune.made import chats, write_lines
from tests.services import PostgresServer, RedisServer, wait_for
from tests.stack import Stack

# On a busy machine importing the libraries alone takes half a minute.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OPTIONS = {
    "epochs": 6,
    "batch_size": 8,
    "save_steps": 4,
    "log_steps": 1,
    "lora_dropout": 0.1,
    "learning_rate": 1e-3,
    "dtype": "float32",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Web and workers that share PostgreSQL, Redis and S3, and no disk."""
    with (
        PostgresServer() as postgres,
        RedisServer() as redis,
        S3Server() as s3,
        Stack(
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
            SECRET_KEY="one-key-for-all-machines-" * 3,
            S3_BUCKET=s3.bucket,
            S3_ENDPOINT_URL=s3.url,
            **CREDENTIALS,
        ) as stack,
    ):
        stack.web()
        base = random_model(tmp_path_factory.mktemp("base") / "model")
        answer = stack.client.post(
            "/api/v1/llm/models/", json={"name": "base", "source": str(base)}
        )
        assert answer.status_code == 201, answer.text
        yield stack


def trainer_worker(stack: Stack, name: str) -> subprocess.Popen[bytes]:
    """A machine of its own: its folder is nobody else's."""
    options = ["-Q", "default,train", "-P", "threads", "-c", "2", "-n", f"{name}@%h"]
    env = {"DATA_DIR": str(stack.data_dir / f"machine-{name}"), "ENGINES_PRELOAD": ""}
    return stack.start(name, "-m", "celery", "-A", "mlops", "worker", *options, env=env)


def get(stack: Stack, path: str) -> dict[str, Any]:
    answer = stack.client.get(f"/api/v1/finetune/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(stack: Stack, path: str, condition: Any, seconds: float = 240) -> dict[str, Any]:
    now: dict[str, Any] = {}

    def look() -> bool:
        # The trainer needs the machine more than whoever asks how far it is.
        time.sleep(0.3)
        now.clear()
        now.update(get(stack, path))
        return condition(now)

    assert wait_for(look, seconds), f"{now}\n{stack.logs()}"
    return now


def ended(job: dict[str, Any]) -> bool:
    return job["status"] in ("succeeded", "failed", "cancelled")


def submit(stack: Stack, name: str) -> str:
    body = {"name": name, "method": "sft", "base": "base", "dataset": "trams", "options": OPTIONS}
    answer = stack.client.post("/api/v1/finetune/jobs/", json=body)
    assert answer.status_code == 202, answer.text
    return f"jobs/{answer.json()['id']}"


def adapter(stack: Stack, name: str) -> str:
    """The hash of the adapter's weights."""
    [version] = [one for one in get(stack, "models/")["results"] if one["name"] == name]
    files = get(stack, f"models/{version['id']}")["files"]
    [found] = [one for one in files if one["name"].endswith("adapter_model.safetensors")]
    return found["sha256"]


def test_a_machine_is_lost_in_mid_training(stack: Stack, tmp_path: Path) -> None:
    first = trainer_worker(stack, "one")
    with write_lines(tmp_path / "rows.jsonl", chats(80)).open("rb") as file:
        answer = stack.client.post(
            "/api/v1/finetune/datasets/", files={"file": file}, data={"name": "trams"}
        )
    assert answer.status_code == 202, answer.text
    assert until(stack, f"imports/{answer.json()['id']}", ended)["status"] == "succeeded"

    cut = submit(stack, "cut")
    until(stack, cut, lambda job: job["progress"]["done"] >= 10)
    # The whole machine: the worker, and by itself the trainer that it had started.
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    known = len(get(stack, f"{cut}/checkpoints")["results"])
    assert known
    trainer_worker(stack, "two")
    job = until(stack, cut, ended)
    assert job["status"] == "succeeded", job
    assert job["attempts"] == 2
    uncut = submit(stack, "uncut")
    job = until(stack, uncut, ended)
    assert job["status"] == "succeeded", job
    assert adapter(stack, "cut") == adapter(stack, "uncut")
    # One curve, as that of the run that nobody disturbed.
    curves = [get(stack, f"{path}/metrics")["points"] for path in (cut, uncut)]
    losses = [
        [(point["step"], point["values"]["loss"]) for point in curve if "loss" in point["values"]]
        for curve in curves
    ]
    assert losses[0] == losses[1] and losses[0]
