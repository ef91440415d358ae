"""Several processes in one terminal: their lines told apart, restarted when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

COLOURS = ("\033[36m", "\033[33m", "\033[35m", "\033[32m")
RESET = "\033[0m"
# A process that lives this long is thought healthy, and its next death is restarted at once.
HEALTHY_SECONDS = 30
LONGEST_PAUSE = 15.0


@dataclass
class Program:
    """A command to be kept running. `grace`: seconds from the first signal to SIGKILL."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    grace: float = 20.0


class Supervisor:
    """Runs programs until SIGINT or SIGTERM; then stops the first one, and the others together.

    Celery's workers exit when a broker restarts under a running task, so a worker without a
    supervisor is down after one bad minute.
    """

    def __init__(self, programs: list[Program], *, out: TextIO = sys.stdout) -> None:
        self._programs = programs
        self._out = out
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._running: dict[str, subprocess.Popen[str]] = {}

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        threads = [
            threading.Thread(target=self._keep, args=(program, index), name=program.name)
            for index, program in enumerate(self._programs)
        ]
        for thread in threads:
            thread.start()
        while not self._stopping.wait(1):
            pass
        # First what takes requests in; each of the others may need seconds to end its work.
        for program in self._programs[:1]:
            self._stop(program)
        stops = [
            threading.Thread(target=self._stop, args=(program,)) for program in self._programs[1:]
        ]
        for thread in stops:
            thread.start()
        for thread in [*stops, *threads]:
            thread.join()

    def _keep(self, program: Program, index: int) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._once(program, index)
            if self._stopping.is_set():
                return
            if time.monotonic() - started > HEALTHY_SECONDS:
                pause = 1.0
            self._say(program, index, f"ended with {code}; started again in {pause:.0f} s")
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _once(self, program: Program, index: int) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            # A session of its own: the terminal's Ctrl-C reaches only this process, which then
            # stops each program in order.
            process = self._running[program.name] = subprocess.Popen(
                program.command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **program.env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        assert process.stdout is not None
        for line in process.stdout:
            self._say(program, index, line.rstrip("\n"))
        return process.wait()

    def _stop(self, program: Program) -> None:
        with self._lock:
            process = self._running.get(program.name)
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(program.grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    def _say(self, program: Program, index: int, line: str) -> None:
        mark = f"{program.name:<7}|"
        if self._out.isatty():
            mark = f"{COLOURS[index % len(COLOURS)]}{mark}{RESET}"
        print(mark, line, file=self._out, flush=True)
