#!/usr/bin/env python3
"""Tries the running stack from outside, as its users meet it; exits with 1 if something is wrong.

    docker compose up -d --wait && docker/try.py PAGE.jpg [--text "what the page says"]

A page uploaded to user-api comes out as text; the console answers on admin-api and nowhere else;
a worker container killed amid a job loses nothing; roots are read-only; processes are user 1000.
Needs Python and docker alone. COMPOSE_FILE and COMPOSE_ENV_FILES hold, as for docker compose.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = ("admin-api", "user-api", "worker-default", "worker-ocr", "beat")
CONSOLE = ("/admin/", "/admin/login/", "/api/auth/login/", "/")
MAKE_KEY = """
from mlops.models import ApiKey, User
user, made = User.objects.get_or_create(username="stack-check")
print("key=" + ApiKey.objects.create(user=user, name="stack check")[1])
"""
COPIES = 8
PATIENCE = 300

failures = 0


def say(what: str, right: bool, more: str = "") -> None:
    global failures
    failures += not right
    sys.stdout.write(f"{'ok    ' if right else 'WRONG '}  {what}{f': {more}' if more else ''}\n")


def compose(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"docker compose {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def address(service: str, port: int = 8010) -> str:
    return "http://" + compose("port", service, str(port)).strip()


class Api:
    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def call(self, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, data=body)
        request.add_header("Authorization", f"Bearer {self.key}")
        if kind:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def upload(self, path: str, field: str, name: str, content: bytes) -> tuple[int, Any]:
        line = uuid.uuid4().hex
        head = (
            f'--{line}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        )
        body = head.encode() + content + f"\r\n--{line}--\r\n".encode()
        return self.call(path, body, f"multipart/form-data; boundary={line}")

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        return self.call(path, json.dumps(body).encode(), "application/json")


def text_comes_out(api: Api, page: Path, expected: str) -> None:
    status, answer = api.upload("/api/ocr/extract/sync", "image_file", page.name, page.read_bytes())
    text = answer["data"]["full_text"] if status == 200 else str(answer)[:300]
    say("a page comes out as text", status == 200 and expected in text, f"{len(text)} characters")


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def status_of(url: str, key: str = "") -> int:
    """Without following where the answer leads to."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        return urllib.request.build_opener(Stay).open(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def console_is_inside() -> None:
    """Asked without a key."""
    for path in CONSOLE:
        inside, outside = (status_of(address(one) + path) for one in ("admin-api", "user-api"))
        right = inside in (200, 302) and outside == 404
        say(f"{path} on admin-api and not on user-api", right, f"{inside}, {outside}")


def proxy_is_in_front(key: str) -> None:
    """Over plain HTTP; with certificates it answers with the way to HTTPS, which is right too."""
    for path, allowed in (("/v1/models", (200, 308)), ("/admin/login/", (404, 308))):
        status = status_of(address("nginx", 8000) + path, key)
        say(f"{path} through the proxy", status in allowed, str(status))


def containers_are_tight() -> None:
    for service in OURS:
        script = (
            "id -u; touch /app/x /opt/venv/x 2>/dev/null && echo written;"
            'for one in /proc/[0-9]*; do stat -c %u "$one" 2>/dev/null; done | sort -u'
        )
        said = compose("exec", "-T", service, "sh", "-c", script).split()
        right = set(said) == {"1000"}
        say(f"{service}: user 1000, root read-only", right, "" if right else " ".join(said))


def nothing_is_lost(api: Api, page: Path) -> None:
    """Kills the worker's first process amid a document: the container starts again by itself."""
    jobs = []
    for number in range(COPIES):
        # Another file each time: what was read already is not read again.
        content = page.read_bytes() + b"\n" * (number + 1)
        status, document = api.upload("/api/v1/documents/", "file", page.name, content)
        if status not in (200, 201):
            say("documents are taken", False, str(document)[:300])
            return
        _status, job = api.post("/api/v1/ocr/jobs/", document=document["id"], force=True)
        jobs.append(job["id"])

    def states() -> list[dict[str, Any]]:
        return [api.call(f"/api/v1/ocr/jobs/{one}/")[1] for one in jobs]

    def wait(until: Any) -> list[dict[str, Any]]:
        end = time.monotonic() + PATIENCE
        while not until(found := states()) and time.monotonic() < end:
            time.sleep(0.2)
        return found

    wait(lambda found: any(one["status"] == "running" for one in found))
    container = compose("ps", "--quiet", "worker-ocr").strip()
    show = ["docker", "inspect", "--format", "{{.State.Pid}}", container]
    os.kill(int(subprocess.check_output(show, text=True)), signal.SIGKILL)
    left = sum(one["status"] not in ("succeeded", "failed") for one in states())
    ended = wait(lambda found: all(one["status"] in ("succeeded", "failed") for one in found))
    good = sum(one["status"] == "succeeded" for one in ended)
    again = sum(one["attempts"] > 1 for one in ended)
    say(
        "a killed worker loses nothing",
        good == COPIES and left > 0 and again > 0,
        f"{left} of {COPIES} jobs were unfinished, {again} ran twice, {good} succeeded",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--text", default="", help="must stand in what is read")
    options = parser.parse_args()
    said = compose(
        "exec",
        "-T",
        "admin-api",
        "python",
        "manage.py",
        "shell",
        "--verbosity",
        "0",
        "-c",
        MAKE_KEY,
    )
    api = Api(address("user-api"), said.rpartition("key=")[2].strip())
    text_comes_out(api, options.page, options.text)
    console_is_inside()
    if compose("ps", "--quiet", "--status", "running", "nginx").strip():
        proxy_is_in_front(api.key)
    containers_are_tight()
    # Only root, or who owns the containers' processes, may kill them.
    if os.getuid() == 0:
        nothing_is_lost(api, options.page)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
