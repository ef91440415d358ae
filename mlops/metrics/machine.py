"""Memory, disks and GPUs of the container or machine that this process is in."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes used, and how many there are."""

    used: int
    size: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver numbers it here; `busy`: share of the last moment, 0 to 1."""

    index: str
    uuid: str
    memory: Room
    busy: float


def memory(root: Path = Path("/")) -> Room | None:
    """Of the container if it has a limit, else of the machine; None where neither is told.

    What is counted is what can't be given back at once, as Kubernetes' "working set" has it: file
    caches that nobody uses are room.
    """
    groups = root / "sys/fs/cgroup"
    return (
        _limited(groups, "memory.max", "memory.current", "inactive_file")
        or _limited(
            groups / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        )
        or _machine(root / "proc/meminfo")
    )


def _limited(folder: Path, limit: str, usage: str, spare: str) -> Room | None:
    """Control groups, version 2 and 1, differ in names alone. None without a limit."""
    try:
        most = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        found = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    # Version 1 says "none" by a number that no machine has.
    if most == "max" or int(most) >= 1 << 60:
        return None
    return Room(max(0, used - int(found.get(spare, 0))), int(most))


def _machine(file: Path) -> Room | None:
    try:
        lines = [line.partition(":") for line in file.read_text().splitlines()]
    except OSError:
        return None
    found = {name: int(rest.split()[0]) * 1024 for name, _colon, rest in lines if rest.split()}
    return Room(found["MemTotal"] - found["MemAvailable"], found["MemTotal"])


def disks() -> dict[str, Room]:
    """The folders that fill up, by what they are for; those that aren't here are left out."""
    folders = {"work": settings.DATA_DIR, "training": settings.TRAINING_FOLDER}
    if not settings.S3_BUCKET:
        folders["media"] = Path(settings.STORAGES["default"]["OPTIONS"]["location"])
    found = {}
    for name, folder in folders.items():
        if folder.is_dir():
            size, _used, free = shutil.disk_usage(folder)
            # What is kept back for root is not there for us.
            found[name] = Room(size - free, size)
    return found


def gpus() -> list[Gpu]:
    """All that the driver shows; none without nvidia-smi, or where it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    fields = "index,uuid,memory.used,memory.total,utilization.gpu"
    try:
        done = subprocess.run(
            [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return []
    rows = [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    found = []
    for row in rows:
        # A GPU that is divided says "[N/A]" of its memory.
        if len(row) == 5 and row[2].isdigit() and row[3].isdigit():
            busy = int(row[4]) / 100 if row[4].isdigit() else 0.0
            found.append(Gpu(row[0], row[1], Room(int(row[2]) * MIB, int(row[3]) * MIB), busy))
    return found
