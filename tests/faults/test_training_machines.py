"""A training on two machines learns what two processes of one do; a cancel ends it on both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm.tiny import random_model
from tests.finetune.made import chats, write_lines
from tests.services import wait_for
from tests.stack import Stack

# On a busy machine importing the libraries alone takes half a minute.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

OPTIONS = {
    # Long enough for a cancel to come while it runs.
    "epochs": 20,
    "batch_size": 4,
    "save_steps": 30,
    "log_steps": 1,
    "lora_dropout": 0.1,
    "learning_rate": 1e-3,
    "dtype": "float32",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(OMP_NUM_THREADS="1") as stack:
        stack.web()
        base = random_model(tmp_path_factory.mktemp("base") / "model")
        answer = stack.client.post(
            "/api/v1/llm/models/", json={"name": "base", "source": str(base)}
        )
        assert answer.status_code == 201, answer.text
        yield stack


def machine(stack: Stack, name: str, **env: str) -> subprocess.Popen[bytes]:
    """A worker with a folder, and so with devices, of its own."""
    options = ["-Q", "default,train", "-P", "threads", "-c", "1", "-n", f"{name}@%h"]
    own = {"TRAINING_FOLDER": str(stack.data_dir / f"machine-{name}"), "ENGINES_PRELOAD": "", **env}
    return stack.start(name, "-m", "celery", "-A", "mlops", "worker", *options, env=own)


def trainers(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = psutil.Process(worker.pid).children(recursive=True)
    return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def get(stack: Stack, path: str) -> dict[str, Any]:
    answer = stack.client.get(f"/api/v1/finetune/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(stack: Stack, path: str, condition: Any, seconds: float = 300) -> dict[str, Any]:
    now: dict[str, Any] = {}

    def look() -> bool:
        time.sleep(0.3)
        now.clear()
        now.update(get(stack, path))
        return condition(now)

    assert wait_for(look, seconds), f"{now}\n{stack.logs()}"
    return now


def ended(job: dict[str, Any]) -> bool:
    return job["status"] in ("succeeded", "failed", "cancelled")


def submit(stack: Stack, name: str, **options: int) -> str:
    body = {"name": name, "method": "sft", "base": "base", "dataset": "trams"}
    body["options"] = OPTIONS | options
    answer = stack.client.post("/api/v1/finetune/jobs/", json=body)
    assert answer.status_code == 202, answer.text
    return f"jobs/{answer.json()['id']}"


def act(stack: Stack, path: str, name: str) -> None:
    answer = stack.client.post(f"/api/v1/finetune/{path}/{name}/")
    assert answer.status_code in (200, 202), answer.text


def adapter(stack: Stack, name: str) -> str:
    """The hash of the adapter's weights."""
    [version] = [one for one in get(stack, "models/")["results"] if one["name"] == name]
    files = get(stack, f"models/{version['id']}")["files"]
    [found] = [one for one in files if one["name"].endswith("adapter_model.safetensors")]
    return found["sha256"]


def losses(stack: Stack, path: str) -> list[tuple[int, float]]:
    points = get(stack, f"{path}/metrics")["points"]
    return [(one["step"], one["values"]["loss"]) for one in points if "loss" in one["values"]]


def test_two_machines_are_one_training(stack: Stack, tmp_path: Path) -> None:
    workers = [machine(stack, name, TRAINING_DEVICES="cpu") for name in ("one", "two")]
    with write_lines(tmp_path / "rows.jsonl", chats(80)).open("rb") as file:
        answer = stack.client.post(
            "/api/v1/finetune/datasets/",
            files={"file": file},
            data={"name": "trams", "validation": "0"},
        )
    assert answer.status_code == 202, answer.text
    assert until(stack, f"imports/{answer.json()['id']}", ended)["status"] == "succeeded"

    apart = submit(stack, "apart", machines=2)
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
    job = until(stack, apart, ended)
    assert job["status"] == "succeeded", (job, stack.logs())
    for worker in workers:
        worker.terminate()
        worker.wait(60)

    machine(stack, "both", TRAINING_DEVICES="cpu:0,cpu:1")
    together = submit(stack, "together", processes=2)
    job = until(stack, together, ended)
    assert job["status"] == "succeeded", (job, stack.logs())
    assert losses(stack, apart) == losses(stack, together)
    assert adapter(stack, "apart") == adapter(stack, "together")
