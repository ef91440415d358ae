"""Trainings of a running stack, asked for and looked at over HTTP alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm.tiny import random_model
from tests.finetune.made import chats, write_lines
from tests.services import wait_for
from tests.stack import Stack

Shown = dict[str, Any]

# Learns something in seconds, on a CPU, and draws random numbers while it does.
OPTIONS = {
    "log_steps": 1,
    "lora_dropout": 0.1,
    "learning_rate": 1e-3,
    "dtype": "float32",
    "device": "cpu",
}


def base_add(stack: Stack, folder: Path) -> None:
    """The language model `base`, of random weights."""
    source = str(random_model(folder / "model"))
    answer = stack.client.post("/api/v1/llm/models/", json={"name": "base", "source": source})
    assert answer.status_code == 201, answer.text


def dataset_add(stack: Stack, folder: Path, **fields: str) -> None:
    """The dataset `trams` of 80 conversations; a worker must be there."""
    with write_lines(folder / "rows.jsonl", chats(80)).open("rb") as file:
        answer = stack.client.post(
            "/api/v1/finetune/datasets/", files={"file": file}, data={"name": "trams", **fields}
        )
    assert answer.status_code == 202, answer.text
    assert until(stack, f"imports/{answer.json()['id']}", ended)["status"] == "succeeded"


def get(stack: Stack, path: str) -> Shown:
    answer = stack.client.get(f"/api/v1/finetune/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def until(
    stack: Stack, path: str, condition: Callable[[Shown], bool], seconds: float = 300
) -> Shown:
    now: Shown = {}

    def look() -> bool:
        now.clear()
        now.update(get(stack, path))
        return condition(now)

    # The trainer needs the machine more than whoever asks how far it is.
    assert wait_for(look, seconds, every=0.3), f"{now}\n{stack.logs()}"
    return now


def ended(job: Shown) -> bool:
    return job["status"] in ("succeeded", "failed", "cancelled")


def submit(stack: Stack, name: str, **options: Any) -> str:
    """Its path below /api/v1/finetune/."""
    body = {"name": name, "method": "sft", "base": "base", "dataset": "trams"}
    body["options"] = OPTIONS | options
    answer = stack.client.post("/api/v1/finetune/jobs/", json=body)
    assert answer.status_code == 202, answer.text
    return f"jobs/{answer.json()['id']}"


def succeeded(stack: Stack, path: str) -> Shown:
    """The training, waited for to its end."""
    job = until(stack, path, ended)
    assert job["status"] == "succeeded", (job, stack.logs())
    return job


def adapter(stack: Stack, name: str) -> str:
    """The hash of the adapter's weights."""
    [version] = [one for one in get(stack, "models/")["results"] if one["name"] == name]
    files = get(stack, f"models/{version['id']}")["files"]
    [found] = [one for one in files if one["name"].endswith("adapter_model.safetensors")]
    return found["sha256"]
