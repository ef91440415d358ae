"""Who has which device of this machine: one training at a time on each.

A lock of the operating system on a file, handed on to the trainer's process: it is free once the
last process that holds it is gone, however it went, and with it the device's memory.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from mlops.exceptions import JobFailed

LOOK_SECONDS = 0.5
AUTO = "auto"


class Held(NamedTuple):
    """Devices by name, and the files whose locks a child must inherit."""

    devices: list[str]
    locks: list[int]

    @property
    def named(self) -> str:
        """As a trainer is told of them; of several, each of its processes takes one."""
        return "cpu" if self.devices[0].startswith("cpu") else ",".join(self.devices)


def devices_here() -> list[str]:
    """As TRAINING_DEVICES says; else the GPUs that the driver shows, or the CPU."""
    named = [name for name in settings.TRAINING_DEVICES if name != AUTO]
    if named:
        return named
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    nodes = [p for p in Path("/dev").glob("nvidia*") if p.name.removeprefix("nvidia").isdigit()]
    count = len(nodes) if visible is None else len([one for one in visible.split(",") if one])
    return [f"cuda:{number}" for number in range(min(count, len(nodes)))] or ["cpu"]


@contextmanager
def held(wanted: str, count: int, look: Callable[[], None]) -> Iterator[Held]:
    """Waits until `count` devices are free and keeps them; `look` is called while it waits.

    `wanted`: "auto", "cpu", "cuda" or a device's name. Raises JobFailed for what is not here.
    """
    fitting = _fitting(wanted)
    if len(fitting) < count:
        raise JobFailed(
            f"This machine lends {', '.join(devices_here())} to training, and the job asks for "
            f"{count} of '{wanted}'. Choose another device, or start a worker where there is one.",
            code="no_device",
        )
    while True:
        taken = _take(fitting, count)
        if taken is not None:
            break
        look()
        time.sleep(LOOK_SECONDS)
    try:
        yield taken
    finally:
        for lock in taken.locks:
            os.close(lock)


@contextmanager
def held_now(wanted: str, count: int) -> Iterator[Held | None]:
    """As `held`, without waiting; None where so many aren't free, or not here at all."""
    taken = _take(_fitting(wanted), count)
    try:
        yield taken
    finally:
        for lock in taken.locks if taken else ():
            os.close(lock)


def _fitting(wanted: str) -> list[str]:
    fitting = [name for name in devices_here() if _fits(name, wanted)]
    return fitting or (["cpu"] if wanted == "cpu" else [])


def _fits(name: str, wanted: str) -> bool:
    """Several shares of the CPU have numbers: cpu:0, cpu:1."""
    return wanted in (AUTO, name) or (wanted in ("cpu", "cuda") and name.startswith(f"{wanted}:"))


def _take(fitting: list[str], count: int) -> Held | None:
    """As many as asked for, or none: two that each hold a half would wait for ever."""
    devices: list[str] = []
    locks: list[int] = []
    for name in fitting:
        lock = _lock(name)
        if lock is not None:
            devices.append(name)
            locks.append(lock)
        if len(devices) == count:
            return Held(devices, locks)
    for lock in locks:
        os.close(lock)
    return None


def _lock(name: str) -> int | None:
    folder = settings.TRAINING_FOLDER / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name.replace(":", "-"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
