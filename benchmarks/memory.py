"""Memory of a process and of all that it has started."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self


class Memory:
    """The most that a process and all it starts hold at once, in MB; looked at 4 times a second."""

    def __init__(self, pid: int) -> None:
        self.most = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.25):
            self.most = max(self.most, memory_mb(self._pid))


def memory_mb(pid: int) -> float:
    """What the process and all that it has started hold now (PSS: shared pages count once)."""
    return sum(map(_pss, _family(pid))) / 1024


def _family(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rsplit(")")[-1].split()[1]
            )
        except OSError:
            continue
    members = [pid]
    for one in members:
        members += [child for child, parent in parents.items() if parent == one]
    return members


def _pss(pid: int) -> int:
    """kB; 0 for a process that has just ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
