"""docker/proxy with the real nginx, in front of the platform's web server."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm.api import replies
from mlops.models import Job
from tests.environment import ROOT
from tests.factories import PASSWORD, StaffFactory
from tests.llm.service import Service, service
from tests.services import MissingProgram, Server, free_port, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = 1000
CHAT = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "one two"}]}


class Proxy(Server):
    """start.sh with other ports, as a user without rights."""

    # Killed, it would leave its workers behind.
    kill_signal = signal.SIGTERM

    def __init__(self, web: str, certificates: Path | None = None, **env: str) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise MissingProgram("nginx", "nginx-light")
        super().__init__()
        self.ports = {name: free_port() for name in ("HTTP_PORT", "HTTPS_PORT", "ADMIN_PORT")}
        self.secure = certificates is not None
        self.env = {
            "PATH": f"{Path(program).parent}:{os.environ['PATH']}",
            "FOLDER": str(self.folder / "proxy"),
            "CERTIFICATES": str(self.folder / "certificates"),
            "USER_API": web,
            "ADMIN_API": web,
            "HTTPS_ADDRESS": f"127.0.0.1:{self.ports['HTTPS_PORT']}",
            **{name: str(port) for name, port in self.ports.items()},
            **env,
        }
        # Copies: a checkout need not be open to everybody.
        shutil.copytree(ROOT / "docker/proxy", self.folder / "files")
        if certificates:
            shutil.copytree(certificates, self.folder / "certificates")
        (self.folder / "log").touch()
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)

    def launcher(self) -> list[str]:
        launcher = ["TERM" if part == "KILL" else part for part in super().launcher()]
        if os.geteuid() != 0:
            return launcher
        return [*launcher, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

    def command(self) -> list[str]:
        env = [f"{name}={value}" for name, value in self.env.items()]
        return ["env", *env, "sh", str(self.folder / "files/start.sh")]

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports["HTTP_PORT"])) == 0

    def client(self, port: str, **options: Any) -> httpx.Client:
        # `localhost`: what the certificate is made out to.
        secure = self.secure and port != "HTTP_PORT"
        url = f"{'https' if secure else 'http'}://localhost:{self.ports[port]}"
        options = {"timeout": 60, **options}
        if secure:
            trusted = str(self.folder / "certificates/fullchain.pem")
            options["verify"] = ssl.create_default_context(cafile=trusted)
        return httpx.Client(base_url=url, **options)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"]
    subprocess.run([*make.split(), *names.split(), *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """While this file is missing, the model makes no word."""
    return tmp_path / "gate"


@pytest.fixture
def served(settings: Any, gate: Path) -> Iterator[Service]:
    """All addresses, the console's too, and the settings of an installation behind a proxy."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["localhost"]
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    with service(settings, gate=str(gate)) as made:
        made.model("echo")
        yield made
        # Whatever a failed test left open ends.
        gate.touch()
        Job.objects.update(status=Job.Status.CANCELLED)


@pytest.fixture
def proxy(served: Service, certificates: Path) -> Iterator[Proxy]:
    web = served.url.removeprefix("http://")
    with Proxy(web, certificates, MAX_UPLOAD_MB="2", FILE_MAX_MB="3") as running:
        yield running


@pytest.fixture
def users(proxy: Proxy, served: Service) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {served.token}"}
    with proxy.client("HTTPS_PORT", headers=headers) as client:
        yield client


def test_users_reach_the_apis_and_nothing_else(users: httpx.Client, proxy: Proxy) -> None:
    answer = users.get("/v1/models")
    assert [one["id"] for one in answer.json()["data"]] == ["echo"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    # The web server behind it has them, as the console's own port shows.
    ways_in = ("/admin/", "//admin/login/", "/%61dmin/login/", "/v1/../admin/login/", "/api/auth/x")
    for path in ("/", *ways_in, "/metrics"):
        status, body = asked(proxy, path)
        assert (status, json.loads(body)["error"]["code"]) == (404, "not_found"), path
    # Plain HTTP leads to HTTPS and answers nothing by itself.
    with proxy.client("HTTP_PORT") as plain:
        answer = plain.post("/v1/chat/completions?x=1")
    assert answer.status_code == 308
    assert answer.headers["Location"] == str(users.base_url.join("/v1/chat/completions?x=1"))


def asked(proxy: Proxy, path: str) -> tuple[int, bytes]:
    """By a client that sends the address as it stands."""
    context = ssl.create_default_context(cafile=str(proxy.folder / "certificates/fullchain.pem"))
    port = proxy.ports["HTTPS_PORT"]
    with closing(HTTPSConnection("localhost", port, context=context, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_people_log_in_to_the_console(proxy: Proxy) -> None:
    """Cookies for HTTPS alone, and the form's origin is believed: both hang on the headers."""
    user = StaffFactory(username="minji", role="annotator")
    with proxy.client("ADMIN_PORT") as client:
        page = client.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
        answer = client.post(
            "/admin/login/",
            data={"username": user.username, "password": PASSWORD, "csrfmiddlewaretoken": token},
            headers={"Origin": str(client.base_url).rstrip("/"), "Referer": str(page.url)},
        )
        assert answer.status_code == 302, answer.text
        assert client.get("/admin/").status_code == 200
        # Pages are compressed, and nothing else of the answer is lost by it.
        assert page.headers["Content-Encoding"] == "gzip"
        assert page.headers["X-Frame-Options"] == "DENY"


def test_words_come_as_they_are_made(
    users: httpx.Client, served: Service, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first bytes are here while the model has made no word, so nothing was held back."""
    monkeypatch.setattr(replies, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(replies, "COMMENT_SECONDS", 0.2)
    headers = {"Accept-Encoding": "gzip"}
    with users.stream("POST", "/v1/chat/completions", json=CHAT, headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "Content-Encoding" not in answer.headers
        lines = answer.iter_lines()
        assert next(lines)
        assert not served.latest().finished
        gate.touch()
        rest = list(lines)
    assert rest[-2:] == ["data: [DONE]", ""] and any('"one' in line for line in rest)


def test_events_of_jobs_come_one_by_one(users: httpx.Client, served: Service) -> None:
    job = Job.objects.create(kind="test.job", queue="nobody", owner=served.user)
    with users.stream("GET", f"/api/v1/finetune/jobs/{job.pk}/events/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        Job.objects.filter(pk=job.pk).update(status=Job.Status.CANCELLED)
        assert any(line == "event: ended" for line in lines)


def test_an_upload_that_is_too_large(users: httpx.Client, proxy: Proxy, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 64 * 1024**2  # so that it is the proxy that refuses

    def send(path: str, megabytes: float) -> httpx.Response:
        return users.post(path, files={"file": b"x" * round(megabytes * 1024**2)})

    def chunks() -> Iterator[bytes]:
        for _ in range(48):
            yield b"x" * 65536

    for answer in (
        send("/api/v1/documents/", 2.5),
        users.post("/api/v1/documents/", content=chunks()),
        send("/v1/files", 3.5),
    ):
        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/json"
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("file_too_large", "invalid_request_error")
    assert "3 MB" in error["message"] and "FILE_MAX_MB" in error["message"]
    # What fits is passed on, and judged by the platform.
    assert send("/api/v1/documents/", 2).json()["error"]["code"] != "file_too_large"
    assert send("/v1/files", 2.5).json()["error"]["param"] == "purpose"


def test_nobody_can_say_who_they_are(users: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    forged = "8.8.8.8"
    headers = {
        "X-Forwarded-For": forged,
        "X-Real-IP": forged,
        "Forwarded": f"for={forged}",
        "True-Client-IP": forged,
        "X-Forwarded-Proto": "http",
        "X-Request-ID": "request-of-the-tests",
    }
    answer = users.get("/v1/models", headers=headers)
    assert answer.headers.get_list("X-Request-ID") == ["request-of-the-tests"]
    (event,) = finished(caplog, "request-of-the-tests")
    assert event["ip"] == "127.0.0.1"
    # What isn't fit for a log is replaced.
    answer = users.get("/v1/models", headers={"X-Request-ID": '"} {"user": "admin'})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert finished(caplog, answer.headers["X-Request-ID"])


def finished(caplog: pytest.LogCaptureFixture, request_id: str) -> list[dict[str, Any]]:
    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [
        one
        for one in events
        if one.get("event") == "request_finished" and one.get("request_id") == request_id
    ]


def test_a_web_server_that_is_away() -> None:
    """Without certificates: plain HTTP. What it logs is JSON, line by line."""
    with Proxy(f"127.0.0.1:{free_port()}") as proxy, proxy.client("HTTP_PORT") as client:
        answer = client.get("/v1/models?key=secret")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        lines = proxy.folder / "log"
        assert wait_for(lambda: '"code":503' in lines.read_text())
        (line,) = [one for one in lines.read_text().splitlines() if one.startswith("{")]
        event = json.loads(line)
    assert event["request"] == "GET /v1/models" and event["ip"] == "127.0.0.1"
    assert event["request_id"] == answer.headers["X-Request-ID"]


def test_settings_that_are_no_numbers_are_named() -> None:
    done = subprocess.run(
        ["sh", ROOT / "docker/proxy/start.sh", "-t"],
        env={"PATH": os.environ["PATH"], "MAX_UPLOAD_MB": "100m"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "'100m'" in done.stderr and "MAX_UPLOAD_MB" in done.stderr
