"""The platform as it is deployed: web and workers as processes, driven over HTTP alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import httpx

from tests.environment import ROOT
from tests.services import free_port, wait_for

# Between two looks at what starts or runs: each takes time from it.
LOOK_SECONDS = 0.15
# Recovery in seconds, so that tests of lost workers and brokers needn't wait for minutes.
QUICK = {
    "JOB_LEASE_SECONDS": "3",
    "JOB_RESEND_SECONDS": "2",
    "MAINTENANCE_SECONDS": "0.5",
    "QUEUE_SEEN_SECONDS": "10",
    "ENGINES_PRELOAD": "ocr:rapidocr",
    "MLFLOW_TRACKING_URI": "none",
}


class Stack:
    """`env` says where database, broker and storage are; nothing set: the embedded defaults."""

    def __init__(self, **env: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stack-")
        self.data_dir = Path(self._folder.name)
        self.port = free_port()
        inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "CI")}
        self.env = {**inherited, "DATA_DIR": str(self.data_dir), "ENV_FILE": os.devnull}
        self.env |= QUICK | env
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if "DATABASE_URL" in self.env:
            key = self.prepare()
        else:
            template, key = _embedded()
            shutil.copytree(template.data_dir, self.data_dir, dirs_exist_ok=True)
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            end(process)
        self.client.close()
        self._folder.cleanup()

    def prepare(self) -> str:
        """Makes tables and the first user; the user's API key."""
        self.manage("migrate", "--verbosity", "0")
        code = "from mlops.bootstrap import first_user; print(first_user().api_key)"
        return self.manage("shell", "--verbosity", "0", "-c", code).split()[-1]

    # -- processes ----------------------------------------------------------------------------

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(
        self, name: str, *command: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A process of the stack; its output goes to `<name>.log` in the data folder."""
        with (self.data_dir / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.env | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def web(self) -> subprocess.Popen[bytes]:
        self.env["BIND"] = f"127.0.0.1:{self.port}"
        process = self.start("web", "-m", "gunicorn", "-c", "gunicorn.conf.py")
        assert wait_for(lambda: self._answers("/health"), every=LOOK_SECONDS), self.log("web")
        return process

    def worker(self, name: str = "worker") -> subprocess.Popen[bytes]:
        """A worker as `celery` starts it, without anybody to restart it.

        With documents in S3 it stands for another machine: its data folder is its own.
        """
        env = {}
        if "S3_BUCKET" in self.env:
            env["DATA_DIR"] = str(self.data_dir / f"machine-{name}")
        options = ["-Q", "default,ocr,llm,train", "-P", "threads", "-c", "1", "-n", f"{name}@%h"]
        return self.start(name, "-m", "celery", "-A", "mlops", "worker", *options, env=env)

    def llm_worker(self, name: str = "llm") -> subprocess.Popen[bytes]:
        """A worker of language models, with many requests at once."""
        options = ["-Q", "llm", "-P", "threads", "-c", "32", "-n", f"{name}@%h"]
        return self.start(name, "-m", "celery", "-A", "mlops", "worker", *options)

    def supervised_worker(self) -> subprocess.Popen[bytes]:
        """A worker that is started again when it dies."""
        return self.start("supervised", "manage.py", "run", "--no-web")

    def _answers(self, path: str) -> bool:
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def ready(self, seconds: float = 60) -> None:
        assert wait_for(lambda: self._answers("/ready"), seconds, every=LOOK_SECONDS), self.logs()

    def log(self, name: str) -> str:
        return (self.data_dir / f"{name}.log").read_text(errors="replace")[-6000:]

    def logs(self) -> str:
        return "\n".join(f"== {p.name}\n{self.log(p.stem)}" for p in self.data_dir.glob("*.log"))

    # -- the API ------------------------------------------------------------------------------

    def submit(self, path: Path, **options: Any) -> dict[str, Any]:
        with path.open("rb") as file:
            # Read again, or the second job of a file would only copy what the first one read.
            data = {"language": "en", "dpi": 110, "force": "true", **options}
            answer = self.client.post("/api/v1/ocr/jobs/", files={"file": file}, data=data)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"].endswith(f"/{answer.json()['id']}")
        return answer.json()

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/ocr/jobs/{job['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(
        self, job: dict[str, Any], condition: Callable[[dict[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """The job once `condition` holds of it."""
        deadline = time.monotonic() + seconds
        while not condition(now := self.job(job)):
            assert time.monotonic() < deadline, f"{now}\n{self.logs()}"
            time.sleep(LOOK_SECONDS)
        return now

    def ended(self, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        final = ("succeeded", "failed", "cancelled")
        return self.until(job, lambda now: now["status"] in final, seconds)

    def result(self, job: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/ocr/jobs/{job['id']}/result")
        assert answer.status_code == 200, answer.text
        return answer.json()


@cache
def _embedded() -> tuple[Stack, str]:
    """One with tables and a user, made once: migrations take seconds. And the user's API key."""
    blank = Stack()
    return blank, blank.prepare()


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
    # Whatever it had started goes with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
