"""A process of its own that works in a folder and tells what it does as lines of a file.

Its memory goes back when it ends. It inherits neither secrets nor the database's address, and ends
by itself when its standard input closes, which happens however this process goes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from finetune.engines.base import EVENTS, STOP, Event, event_read

# What a trainer may see of the environment: nothing that is secret.
PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "USER"),
    *("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN", "TRANSFORMERS_CACHE"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
PREFIXES = ("TORCH_", "NCCL_", "GLOO_", "PYTORCH_")
MODULE = "finetune.engines.process"
LOG = "trainer.log"
LOOK_SECONDS = 0.2


class Meeting(NamedTuple):
    """Where the trainers of several machines meet: at the first one's address and port.

    `rank`: which of the machines this one is.
    """

    machines: int
    rank: int
    address: str
    port: int


class Child:
    """A trainer's process. `locks` are file descriptors that it keeps open as long as it lives."""

    def __init__(
        self,
        folder: Path,
        *,
        arguments: Sequence[str],
        locks: Sequence[int] = (),
        processes: int = 1,
        meeting: Meeting | None = None,
        module: str = MODULE,
    ) -> None:
        """`processes`: as many as accelerate starts here; 0: one, without accelerate."""
        self.folder = folder
        self._events = folder / EVENTS
        self._events.unlink(missing_ok=True)
        (folder / STOP).unlink(missing_ok=True)
        self._read = 0
        with (folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *_launch(processes, meeting), "-m", module, *arguments],
                cwd=settings.BASE_DIR,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(locks),
                start_new_session=True,
            )

    def events(self) -> Iterator[Event | None]:
        """What it tells, until it has ended; None where nothing is new for a moment."""
        while True:
            ended = self._process.poll() is not None
            yield from self._new()
            if ended:
                return
            yield None
            time.sleep(LOOK_SECONDS)

    def _new(self) -> Iterator[Event]:
        if not self._events.exists():
            return
        with self._events.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield event_read(line.decode())

    def ask_to_stop(self) -> None:
        """It saves a checkpoint and ends."""
        (self.folder / STOP).touch()

    @property
    def exit_status(self) -> int | None:
        """Below 0: ended by the signal of that number. accelerate gives 128 more."""
        status = self._process.poll()
        return status - 256 if status is not None and status > 128 else status

    def last_words(self, lines: int = 30) -> str:
        """The end of what it has written on the way: the library's own message, mostly."""
        path = self.folder / LOG
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def end(self) -> None:
        """Kills what is left of it, children too; waits until its memory is free."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


def _launch(processes: int, meeting: Meeting | None = None) -> list[str]:
    if not processes:
        return []
    machines = meeting.machines if meeting else 1
    launch = ["-m", "accelerate.commands.launch", "--num_processes", str(processes * machines)]
    launch += ["--num_machines", str(machines), "--mixed_precision", "no"]
    launch += ["--dynamo_backend", "no"]
    if meeting:
        launch += ["--machine_rank", str(meeting.rank), "--same_network"]
        launch += ["--main_process_ip", meeting.address, "--main_process_port", str(meeting.port)]
    # Left to itself, accelerate gives each process one thread.
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)) // processes)
    launch += ["--num_cpu_threads_per_process", str(max(1, threads))]
    return launch + (["--multi_gpu"] if processes * machines > 1 else [])


def _environment() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PREFIXES)
    }
    passed |= {
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return passed
