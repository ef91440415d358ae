"""Who may see and do what: keys, groups, health, errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLResolver, get_resolver
from django.utils import timezone

from mlops.models import ApiKey, QueuePulse, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("kim", password="a-long-password")


def bearer(token: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def test_key_is_stored_as_a_hash(user: User, client: Client) -> None:
    key, token = ApiKey.objects.create(user=user, name="ci")
    assert token.startswith("mk-") and token not in str(ApiKey.objects.values().get())
    assert token.startswith(key.token_key)
    assert client.get("/api/v1/documents/", **bearer(token)).status_code == 200
    key.refresh_from_db()
    assert key.last_used_at is not None
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert client.get("/api/v1/documents/", **bearer(wrong)).status_code == 401


def test_revoked_expired_and_inactive_are_refused(user: User, client: Client) -> None:
    key, token = ApiKey.objects.create(user=user)
    key.revoke()
    answer = client.get("/api/v1/documents/", **bearer(token))
    assert answer.status_code == 401 and "revoked" in answer.json()["error"]["message"]
    _key, token = ApiKey.objects.create(user=user, expiry=timedelta(seconds=-1))
    assert client.get("/api/v1/documents/", **bearer(token)).status_code == 401
    _key, token = ApiKey.objects.create(user=user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.get("/api/v1/documents/", **bearer(token)).status_code == 401


def addresses(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    """Every address of the platform, its parameters filled in."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, route)
        else:
            yield "/" + filled(route)


def filled(route: str) -> str:
    route = re.sub(r"<(uuid):\w+>", "6d4c6a0e-0000-4000-8000-000000000000", route)
    route = re.sub(r"<(int:)?\w+>", "1", re.sub(r"<(path|str|slug):\w+>", "1", route))
    route = re.sub(r"\(\?P<\w+>(\([^)]*\)|[^()])*\)", "1", route)
    return re.sub(r"\\Z|[$^?\\]", "", route)


def test_everything_but_health_needs_a_login(client: Client) -> None:
    """Whatever address there is: a visitor is refused, sent to the login, or finds nothing."""
    open_to_all = {"/health", "/ready", "/admin/login/", "/api/auth/login/"}
    tried = sorted(set(addresses(get_resolver().url_patterns)))
    assert len(tried) > 60 and open_to_all <= set(tried)
    answers = {path: client.get(path).status_code for path in tried}
    assert {path for path, status in answers.items() if status == 200} <= open_to_all
    # What only sends a visitor on must send them to the login.
    for path in (path for path, status in answers.items() if status in (301, 302)):
        final = client.get(path, follow=True)
        assert "/login" in final.redirect_chain[-1][0], (path, final.redirect_chain)
    for path in ("/api/v1/documents/", "/api/v1/ocr/jobs/", "/api/ocr/extract/sync"):
        assert client.post(path).status_code == 401, path


def test_error_has_one_form(user: User, client: Client) -> None:
    client.force_login(user)
    answer = client.get("/api/v1/documents/6d4c6a0e-0000-4000-8000-000000000000/")
    assert answer.status_code == 404
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == "not_found"
    answer = client.post("/api/v1/documents/")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "file"


def test_groups_have_their_rights() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == {
        "admin",
        "operator",
        "annotator",
        "client",
    }
    users = {}
    for name in ("admin", "operator", "annotator", "client"):
        users[name] = User.objects.create_user(name, is_staff=True)
        users[name].groups.add(Group.objects.get(name=name))
    assert [n for n, u in users.items() if u.sees_all] == ["admin", "operator"]
    assert [n for n, u in users.items() if u.has_perm("mlops.change_user")] == ["admin"]
    assert [n for n, u in users.items() if u.has_perm("ocr.add_document")] == [
        "admin",
        "operator",
        "annotator",
    ]


def test_ready_wants_a_worker_on_each_queue(client: Client, settings) -> None:
    settings.READY_QUEUES = ["ocr", "llm"]
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["database"] and answer.json()["broker"] and answer.json()["storage"]
    for queue in ("ocr", "llm"):
        QueuePulse.objects.create(queue=queue, seen_at=timezone.now(), worker="w")
    assert client.get("/ready").status_code == 200
    long_ago = timezone.now() - timedelta(seconds=settings.QUEUE_SEEN_SECONDS + 5)
    QueuePulse.objects.filter(queue="llm").update(seen_at=long_ago)
    answer = client.get("/ready")
    assert answer.status_code == 503 and answer.json()["workers"]["llm"] is False


def test_ready_names_the_broken_part(client: Client, settings, monkeypatch) -> None:
    def away() -> None:
        raise OSError("connection refused by 10.1.2.3")

    monkeypatch.setattr("mlops.health._storage", away)
    away.__name__ = "storage"
    answer = client.get("/ready")
    assert answer.status_code == 503 and answer.json()["storage"] is False
    assert "10.1.2.3" not in answer.content.decode()
