"""Webhooks: signed as the standard's own library checks it, sent to a real server, kept from
addresses that are none of a user's business."""

from __future__ import annotations

import html
import http.server
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
import standardwebhooks
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mlops import delivery, endings, outgoing, webhooks
from mlops.models import ApiKey, Job, User, Webhook, WebhookDelivery
from mlops.services import job_cancel
from tests.factories import StaffFactory

pytestmark = pytest.mark.django_db


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent; answers `statuses` one after the other, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?a=1"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((headers | {"path": self.path}, body))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        if status >= 400:
            self.wfile.write(b"not today " * 1000)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_NETWORKS = ["127.0.0.0/8"]
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_TIMEOUT_SECONDS = 2
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def user() -> User:
    return User.objects.create_user("kim", password="a-long-password")


@pytest.fixture
def api(user: User) -> Client:
    _key, token = ApiKey.objects.create(user=user)
    return Client(headers={"Authorization": f"Bearer {token}"})


def ended(owner: User, status: str = "succeeded", **fields: object) -> Job:
    """A job that has just ended in a worker, told of as `mlops.jobs` does."""
    job = Job.objects.create(kind="test.job", queue="default", owner=owner, **fields)
    held = Job.objects.lease(job.pk, worker="w")
    assert held.finish(status, track=False)
    endings.announce(held)
    return held


def due_now() -> None:
    WebhookDelivery.objects.update(next_at=timezone.now() - timedelta(seconds=1))


def deliver() -> WebhookDelivery:
    """One attempt at the only message there is, in this thread, so that its rows are seen."""
    WebhookDelivery.objects.update(attempts=WebhookDelivery.objects.get().attempts + 1)
    delivery.attempt(WebhookDelivery.objects.select_related("owner").get())
    return WebhookDelivery.objects.get()


def test_message_is_signed_as_the_standard_has_it(user: User, receiver: Receiver) -> None:
    Webhook.objects.create(owner=user, url=receiver.url)
    job = ended(user)
    assert deliver().status == "delivered"
    ((headers, body),) = receiver.received
    assert headers["path"] == "/hook?a=1" and headers["content-type"] == "application/json"
    told = standardwebhooks.Webhook(webhooks.secret(user)).verify(body, headers)
    assert told["type"] == "job.succeeded" and told["data"]["id"] == str(job.pk)
    assert told["data"]["status"] == "succeeded" and told["data"]["finished_at"]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(webhooks.secret(user)).verify(body + b" ", headers)
    stranger = User.objects.create_user("lee", password="a-long-password")
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(webhooks.secret(stranger)).verify(body, headers)


def test_new_secret_signs_beside_the_old_for_a_day(
    user: User, api: Client, receiver: Receiver
) -> None:
    old = api.get("/api/v1/webhooks/secret").json()["secret"]
    new = api.post("/api/v1/webhooks/secret").json()["secret"]
    assert old != new and old.startswith("whsec_")
    user.refresh_from_db()
    ended(user, webhook_url=receiver.url)
    deliver()
    headers, body = receiver.received[0]
    for secret in (old, new):
        assert standardwebhooks.Webhook(secret).verify(body, headers)
    User.objects.update(webhook_secret_changed_at=timezone.now() - timedelta(hours=25))
    deliver()
    headers, body = receiver.received[1]
    assert standardwebhooks.Webhook(new).verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(old).verify(body, headers)


def test_who_is_told_of_what(user: User, receiver: Receiver) -> None:
    Webhook.objects.create(owner=user, url="https://a.example/1", events=["job.failed"])
    Webhook.objects.create(owner=user, url="https://a.example/2", kinds=["other.kind"])
    Webhook.objects.create(owner=user, url="https://a.example/3", enabled=False)
    Webhook.objects.create(owner=user, url="https://a.example/4")
    other = User.objects.create_user("lee", password="a-long-password")
    Webhook.objects.create(owner=other, url="https://a.example/5")
    ended(user, webhook_url="https://a.example/6")
    urls = WebhookDelivery.objects.order_by("url").values_list("url", flat=True)
    assert list(urls) == ["https://a.example/4", "https://a.example/6"]
    ended(user, "failed")
    assert WebhookDelivery.objects.filter(event="job.failed").count() == 2


def test_parts_of_a_batch_are_not_told_of(user: User) -> None:
    Webhook.objects.create(owner=user, url="https://a.example/")
    parent = Job.objects.create(kind="test.batch", queue="default", owner=user)
    ended(user, parent=parent)
    assert not WebhookDelivery.objects.exists()


def test_nobody_to_tell_costs_no_row(user: User) -> None:
    assert not ended(user).unannounced and not WebhookDelivery.objects.exists()


def test_cancelled_in_the_queue_is_told_too(user: User) -> None:
    Webhook.objects.create(owner=user, url="https://a.example/")
    job_cancel(job=Job.objects.create(kind="test.job", queue="default", owner=user))
    assert WebhookDelivery.objects.get().event == "job.cancelled"


def test_failed_attempts_are_logged_and_made_again(user: User, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    ended(user, webhook_url=receiver.url)
    first = deliver()
    assert (first.status, first.attempts, first.response_status) == ("pending", 1, 500)
    # Of an endless answer a little is kept.
    assert first.error.startswith("answered 500: not today") and len(first.error) < 600
    assert timedelta(seconds=3) < first.next_at - timezone.now() < timedelta(seconds=7)
    second = deliver()
    assert second.next_at - timezone.now() > timedelta(minutes=4)
    third = deliver()
    assert (third.status, third.attempts, third.error) == ("delivered", 3, "")
    names = {headers["webhook-id"] for headers, _body in receiver.received}
    assert names == {f"msg_{third.pk.hex}"}


def test_attempts_end(user: User, api: Client, receiver: Receiver) -> None:
    receiver.statuses = [500] * 8
    ended(user, webhook_url=receiver.url)
    for _ in range(8):
        last = deliver()
    assert last.status == "failed" and last.next_at is None
    url = f"/api/v1/webhooks/deliveries/{last.pk}"
    assert api.get(url).json()["attempts"] == 8
    assert api.post(f"{url}/redeliver").status_code == 202
    assert api.post(f"{url}/redeliver").status_code == 409
    assert deliver().status == "delivered"


def test_gone_turns_the_webhook_off(user: User, receiver: Receiver) -> None:
    hook = Webhook.objects.create(owner=user, url=receiver.url)
    receiver.statuses = [410]
    ended(user)
    assert deliver().status == "failed"
    hook.refresh_from_db()
    assert not hook.enabled and "410" in hook.note


def test_redirect_is_not_followed(user: User, receiver: Receiver) -> None:
    receiver.statuses, receiver.location = [302], "http://169.254.169.254/"
    ended(user, webhook_url=receiver.url)
    told = deliver()
    assert (told.status, told.response_status) == ("pending", 302)
    assert len(receiver.received) == 1


def test_address_that_trickles_is_cut_off(settings) -> None:
    """Each byte comes in time, the whole never would."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def trickle() -> None:
        connection, _address = listener.accept()
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stop.wait(0.1):
                    connection.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    started = time.monotonic()
    policy = outgoing.Policy.of(["127.0.0.1/32"], http=True)
    try:
        with pytest.raises(outgoing.Unreachable):
            port = listener.getsockname()[1]
            url = f"http://127.0.0.1:{port}/"
            outgoing.post(url, body=b"{}", headers={}, policy=policy, timeout=0.8)
        assert time.monotonic() - started < 5
    finally:
        stop.set()
        listener.close()
        thread.join(5)


@pytest.mark.django_db(transaction=True)
def test_due_messages_are_sent_once_by_any_number(user: User, receiver: Receiver) -> None:
    Webhook.objects.create(owner=user, url=receiver.url)
    for _ in range(3):
        ended(user)
    threads = [threading.Thread(target=delivery.deliver_due) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.received) == 3
    assert set(WebhookDelivery.objects.values_list("status", "attempts")) == {("delivered", 1)}
    assert delivery.deliver_due() == 0


PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.9.9", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00::1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[2002:7f00:1::]", "[64:ff9b::a00:1]"),
    *("[ff02::1]", "2130706433", "0x7f.1", "localhost"),
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_not_called(host: str) -> None:
    policy = outgoing.Policy.of([], http=True)
    with pytest.raises((outgoing.Refused, outgoing.Unreachable)) as refused:
        outgoing.post(f"http://{host}:9/", body=b"", headers={}, policy=policy, timeout=2)
    # Not one attempt to connect: what is refused is refused before.
    assert isinstance(refused.value, outgoing.Refused) or "resolved" in str(refused.value)


def test_name_that_turns_private_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad address among good ones is enough, and what was checked is what is called."""
    answers = [("93.184.216.34", 80), ("127.0.0.1", 80)]

    def resolve(*_: object, **__: object) -> list:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answer) for answer in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    policy = outgoing.Policy.of([], http=True)
    with pytest.raises(outgoing.Refused):
        outgoing.post("http://a.example/", body=b"", headers={}, policy=policy, timeout=2)


def test_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Rebinding: the second answer would be another, and is never asked for."""
    asked = []
    port = receiver.server_address[1]

    def resolve(host: str, *_: object, **__: object) -> list:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.9"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    original = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: (
            resolve(host) if host == "a.example" else original(host, *rest, **named)
        ),
    )
    policy = outgoing.Policy.of(["127.0.0.1/32"], http=True)
    status, _answer = outgoing.post(
        f"http://a.example:{port}/", body=b"{}", headers={}, policy=policy, timeout=2
    )
    assert status == 204 and asked == ["a.example"]
    assert receiver.received[0][0]["host"] == f"a.example:{port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/",
        "ftp://a.example/",
        "https://user:secret@a.example/",
        "https:///nowhere",
        "https://a.example:99999/",
        "https://a.example/a b",
        "https://10.0.0.1/",
        "file:///etc/passwd",
    ],
)
def test_bad_url_is_refused_at_once(url: str, api: Client) -> None:
    answer = api.post("/api/v1/webhooks", {"url": url}, content_type="application/json")
    assert answer.status_code == 400, answer.content
    assert not Webhook.objects.exists()


def test_webhooks_by_api(user: User, api: Client) -> None:
    url = "https://hooks.example/ocr"
    data = {"url": url, "events": ["job.failed"], "kinds": ["ocr.batch"]}
    made = api.post("/api/v1/webhooks", data, content_type="application/json").json()
    assert (made["url"], made["events"], made["enabled"]) == (url, ["job.failed"], True)
    bad = api.post(
        "/api/v1/webhooks", {"url": url, "kinds": ["x"]}, content_type="application/json"
    )
    assert bad.status_code == 400 and bad.json()["error"]["code"] == "unknown_kind"
    one = f"/api/v1/webhooks/{made['id']}"
    off = api.patch(one, json.dumps({"enabled": False}), content_type="application/json")
    assert off.json()["enabled"] is False

    other = User.objects.create_user("lee", password="a-long-password")
    _key, token = ApiKey.objects.create(user=other)
    stranger = Client(headers={"Authorization": f"Bearer {token}"})
    assert stranger.get(one).status_code == 404
    assert stranger.get("/api/v1/webhooks").json()["count"] == 0
    assert api.delete(one).status_code == 204


# -- console ----------------------------------------------------------------------------------


def test_webhook_by_console(client: Client) -> None:
    user = StaffFactory(role="annotator")
    client.force_login(user)
    add = reverse("admin:mlops_webhook_add")
    refused = client.post(add, {"url": "https://10.0.0.1/", "enabled": "on"})
    assert "not an address of the public internet" in refused.content.decode()
    sent = {"url": "https://a.example/", "events": ["job.failed"], "enabled": "on"}
    assert client.post(add, sent).status_code == 302
    hook = Webhook.objects.get()
    assert (hook.owner, hook.events, hook.kinds) == (user, ["job.failed"], [])
    one = reverse("admin:mlops_webhook_change", args=[hook.pk])
    assert webhooks.secret(user) in html.unescape(client.get(one).content.decode())

    # An operator sees the webhook, and not what its owner's messages are signed with.
    client.force_login(StaffFactory(role="operator"))
    shown = html.unescape(client.get(one).content.decode())
    assert "https://a.example/" in shown and webhooks.secret(user) not in shown
    client.force_login(StaffFactory(role="annotator"))
    assert client.get(one).status_code == 302


def test_message_sent_again_by_console(client: Client) -> None:
    user = StaffFactory(role="annotator")
    client.force_login(user)
    told = WebhookDelivery.objects.create(
        owner=user, url="https://a.example/", event="job.failed", body="{}", status="failed"
    )
    WebhookDelivery.objects.create(url="https://b.example/", event="job.failed", body="{}")
    page = reverse("admin:mlops_webhookdelivery_changelist")
    listed = client.get(page).content.decode()
    assert "a.example" in listed and "b.example" not in listed
    client.post(page, {"action": "redeliver", "_selected_action": [told.pk]})
    told.refresh_from_db()
    assert told.status == "pending" and told.next_at is not None


def test_every_kind_of_job_has_a_place() -> None:
    """A message of its end names the path that the API shows it at."""
    for kind in Job.__subclasses__():
        row = kind(pk=uuid.uuid4(), parent_id=uuid.uuid4())
        assert row.get_absolute_url().startswith("/"), kind
