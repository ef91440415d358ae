"""A training whose machine is lost goes on on another one, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CREDENTIALS, S3Server
from tests.services import PostgresServer, RedisServer
from tests.stack import Stack
from tests.training_stack import adapter, base_add, dataset_add, get, submit, succeeded, until

# On a busy machine importing the libraries alone takes half a minute.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

OPTIONS = {"epochs": 6, "batch_size": 8, "save_steps": 4}


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
        base_add(stack, tmp_path_factory.mktemp("base"))
        yield stack


def trainer_worker(stack: Stack, name: str) -> subprocess.Popen[bytes]:
    """A machine of its own: its folder is nobody else's."""
    options = ["-Q", "default,train", "-P", "threads", "-c", "2", "-n", f"{name}@%h"]
    env = {"DATA_DIR": str(stack.data_dir / f"machine-{name}"), "ENGINES_PRELOAD": ""}
    return stack.start(name, "-m", "celery", "-A", "mlops", "worker", *options, env=env)


def test_a_machine_is_lost_in_mid_training(stack: Stack, tmp_path: Path) -> None:
    first = trainer_worker(stack, "one")
    dataset_add(stack, tmp_path)
    cut = submit(stack, "cut", **OPTIONS)
    until(stack, cut, lambda job: job["progress"]["done"] >= 10)
    # The whole machine: the worker, and by itself the trainer that it had started.
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    known = len(get(stack, f"{cut}/checkpoints")["results"])
    assert known
    trainer_worker(stack, "two")
    assert succeeded(stack, cut)["attempts"] == 2
    succeeded(stack, submit(stack, "uncut", **OPTIONS))
    assert adapter(stack, "cut") == adapter(stack, "uncut")
