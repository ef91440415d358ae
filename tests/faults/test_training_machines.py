"""A training on two machines learns what two processes of one do; a cancel ends it on both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.services import wait_for
from tests.stack import Stack
from tests.training_stack import (
    adapter,
    base_add,
    dataset_add,
    ended,
    get,
    submit,
    succeeded,
    until,
)

# On a busy machine importing the libraries alone takes half a minute.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

# Long enough for a cancel to come while it runs.
OPTIONS = {"epochs": 20, "batch_size": 4, "save_steps": 30}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(OMP_NUM_THREADS="1") as stack:
        stack.web()
        base_add(stack, tmp_path_factory.mktemp("base"))
        yield stack


def machine(stack: Stack, name: str, **env: str) -> subprocess.Popen[bytes]:
    """A worker with a folder, and so with devices, of its own."""
    options = ["-Q", "default,train", "-P", "threads", "-c", "1", "-n", f"{name}@%h"]
    own = {"TRAINING_FOLDER": str(stack.data_dir / f"machine-{name}"), "ENGINES_PRELOAD": "", **env}
    return stack.start(name, "-m", "celery", "-A", "mlops", "worker", *options, env=own)


def trainers(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = psutil.Process(worker.pid).children(recursive=True)
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def act(stack: Stack, path: str, name: str) -> None:
    answer = stack.client.post(f"/api/v1/finetune/{path}/{name}/")
    assert answer.status_code in (200, 202), answer.text


def losses(stack: Stack, path: str) -> list[tuple[int, float]]:
    points = get(stack, f"{path}/metrics")["points"]
    return [(one["step"], one["values"]["loss"]) for one in points if "loss" in one["values"]]


def test_two_machines_are_one_training(stack: Stack, tmp_path: Path) -> None:
    workers = [machine(stack, name, TRAINING_DEVICES="cpu") for name in ("one", "two")]
    dataset_add(stack, tmp_path, validation="0")

    apart = submit(stack, "apart", machines=2, **OPTIONS)
    until(stack, apart, lambda job: job["progress"]["done"] >= 1)
    # On each machine accelerate and its trainer.
    assert [len(trainers(worker)) for worker in workers] == [2, 2]
    act(stack, apart, "cancel")
    job = until(stack, apart, ended)
    assert job["status"] == "cancelled", job
    assert wait_for(lambda: not any(trainers(worker) for worker in workers), 60)
    assert get(stack, f"{apart}/checkpoints")["results"]
    # It goes on from there, with the random numbers of each, and ends as if it were uncut.
    act(stack, apart, "retry")
    succeeded(stack, apart)
    for worker in workers:
        worker.terminate()
        worker.wait(60)

    machine(stack, "both", TRAINING_DEVICES="cpu:0,cpu:1")
    together = submit(stack, "together", processes=2, **OPTIONS)
    succeeded(stack, together)
    assert losses(stack, apart) == losses(stack, together)
    assert adapter(stack, "apart") == adapter(stack, "together")
