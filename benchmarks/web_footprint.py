"""How much memory the web process holds, and how long Django takes to start.

    .venv/bin/python benchmarks/web_footprint.py

Prints resident memory of gunicorn's worker before and after requests (MB), and seconds for
django.setup() and for resolving every URL, each the best of five fresh processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = """
import time; t = time.perf_counter()
import os; os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
import django; django.setup()
from django.urls import resolve; resolve("/api/v1/documents/"); resolve("/admin/")
print(time.perf_counter() - t)
"""
MEMORY_LIMIT_MB, START_LIMIT_S = 130, 2


def resident_mb(pid: int) -> float:
    """VmRSS of the process, in units of 1024 * 1024 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "DATA_DIR": folder, "PYTHONPATH": str(ROOT)}
        env.pop("DATABASE_URL", None)
        manage = [sys.executable, "manage.py"]
        subprocess.run([*manage, "migrate", "-v0"], cwd=ROOT, env=env, check=True)
        starts = [
            float(subprocess.check_output([sys.executable, "-c", START], cwd=ROOT, env=env))
            for _ in range(5)
        ]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        web = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
            cwd=ROOT,
            env={**env, "BIND": f"127.0.0.1:{port}"},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            base = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    get(f"{base}/health")
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            children = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
            worker = int(children[0])
            first = resident_mb(worker)
            paths = ["/admin/login/", "/api/v1/documents/", "/api/docs/", "/ready"]
            statuses = [get(f"{base}{path}") for path in paths for _ in range(10)]
            later = resident_mb(worker)
            arbiter = resident_mb(web.pid)
        finally:
            web.send_signal(signal.SIGTERM)
            web.wait()
    print(f"web worker after the first request   {first:6.1f} MB (limit {MEMORY_LIMIT_MB})")
    print(f"web worker after {len(statuses) + 1:>3} requests        {later:6.1f} MB")
    print(f"gunicorn's arbiter                   {arbiter:6.1f} MB")
    print(f"django.setup() and URL resolution    {min(starts):6.2f} s  (limit {START_LIMIT_S})")
    return int(first > MEMORY_LIMIT_MB or min(starts) > START_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
