"""With CERBOS_URL a real Cerbos decides: the same as the groups by the policies that come along."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient
from rest_framework.views import APIView

from mlops import policy
from mlops.auth import PolicyAllows, call_name
from mlops.doctor import Status, policies
from mlops.metrics.view import MetricsView
from mlops.models import ApiKey, User
from mlops.roles import ROLES
from tests.environment import ROOT
from tests.factories import DocumentFactory, StaffFactory, UserFactory
from tests.misbehaving import Handler, Misbehaving
from tests.services import CerbosServer, free_port, wait_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def cerbos(cerbos_server: CerbosServer, settings) -> Iterator[CerbosServer]:
    settings.CERBOS_URL = cerbos_server.url
    yield cerbos_server
    cerbos_server.restore()


def fresh(user: User) -> User:
    """As the next request sees the user."""
    return User.objects.get(pk=user.pk)


def api(user: User) -> APIClient:
    _row, key = ApiKey.objects.create(user=user, name="scanner")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def rule_add(server: CerbosServer, name: str, rule: dict) -> None:
    file = server.policies / f"{name}.yaml"
    found = yaml.safe_load(file.read_text())
    found["resourcePolicy"]["rules"].append(rule)
    file.write_text(yaml.safe_dump(found))


@pytest.mark.parametrize("role", [*ROLES, ""])
def test_policies_allow_what_the_groups_do(cerbos: CerbosServer, settings, role: str) -> None:
    user = UserFactory(role=role)
    by_policies = fresh(user).get_all_permissions()
    settings.CERBOS_URL = ""
    every = {
        f"{app}.{code}"
        for app, code in Permission.objects.values_list("content_type__app_label", "codename")
    }
    assert by_policies == fresh(user).get_all_permissions() & every
    assert bool(by_policies) == bool(ROLES.get(role))


def test_few_are_asked_for_alone_and_many_together(settings) -> None:
    asked: list[int] = []

    def behave(handler: Handler) -> None:
        resources = json.loads(handler.body)["resources"]
        asked.append(sum(len(one["actions"]) for one in resources))
        results = [
            {
                "resource": one["resource"],
                "actions": dict.fromkeys(one["actions"], "EFFECT_ALLOW"),
            }
            for one in resources
        ]
        handler.answer(200, {"results": results})

    with Misbehaving(behave) as server:
        settings.CERBOS_URL = server.url
        user = UserFactory()
        for _ in range(2):
            assert user.sees_all and user.has_perm("ocr.view_document")
            assert not user.has_perm("ocr.no_such_permission")
        assert asked == [1, 1]
        assert user.has_perm("ocr.add_document") and user.has_perm("llm.add_textfix")
        assert user.has_module_perms("finetune") and not user.has_perm("ocr.no_such_permission")
        assert asked[:2] == [1, 1] and len(asked) == 3 and asked[2] > 200


def test_a_changed_policy_counts_at_once(cerbos: CerbosServer) -> None:
    annotator = UserFactory(role="annotator")
    assert fresh(annotator).has_perm("ocr.view_document")
    denied = {"effect": "EFFECT_DENY", "roles": ["annotator"], "actions": ["document:*"]}
    rule_add(cerbos, "ocr", denied)
    assert wait_for(lambda: not fresh(annotator).has_perm("ocr.view_document"))
    assert fresh(annotator).has_perm("ocr.view_ocrjob")
    assert fresh(UserFactory(role="operator")).has_perm("ocr.view_document")


def test_whose_rows_are_seen(cerbos: CerbosServer) -> None:
    """`view_all` of the policies, not of the database, lets somebody see what is others'."""
    document, reader = DocumentFactory(), UserFactory(role="client")
    place = f"/api/v1/documents/{document.pk}"
    assert api(reader).get(place).status_code == 404
    allowed = {
        "effect": "EFFECT_ALLOW",
        "roles": ["client"],
        "actions": ["view_all"],
        "condition": {"match": {"expr": f'P.attr.username == "{reader.username}"'}},
    }
    rule_add(cerbos, "mlops", allowed)
    assert wait_for(lambda: api(reader).get(place).status_code == 200)
    assert api(UserFactory(role="client")).get(place).status_code == 404


def test_a_call_that_a_policy_forbids(cerbos: CerbosServer) -> None:
    client, operator = api(UserFactory(role="client")), api(UserFactory(role="operator"))
    assert client.get("/api/v1/documents/").status_code == 200
    denied = {
        "effect": "EFFECT_DENY",
        "roles": ["*"],
        "actions": ["document:list", "search:*"],
        "condition": {"match": {"expr": 'P.attr.key == "scanner" && !("operator" in P.roles)'}},
    }
    rule_add(cerbos, "api", denied)
    assert wait_for(lambda: client.get("/api/v1/documents/").status_code == 403)
    answer = client.get("/api/v1/documents/").json()["error"]
    assert answer["code"] == "policy_denied" and "document:list" in answer["message"]
    # An asynchronous view, with and without the slash.
    for place in ("/api/v1/llm/search", "/api/v1/llm/search/"):
        assert client.post(place, {"query": "rent"}, format="json").status_code == 403
    assert client.head("/api/v1/documents/").status_code == 403
    assert client.get("/api/v1/ocr/jobs/").status_code == 200
    assert operator.get("/api/v1/documents/").status_code == 200


def test_the_console_shows_what_policies_allow(cerbos: CerbosServer, client: Client) -> None:
    client.force_login(StaffFactory(role="annotator"))
    assert client.get("/admin/ocr/document/").status_code == 200
    assert client.get("/admin/mlops/user/").status_code == 403


def test_a_server_that_is_away_allows_nothing(settings, client: Client) -> None:
    settings.CERBOS_URL = f"http://127.0.0.1:{free_port()}"
    answer = api(UserFactory(role="operator")).get("/api/v1/documents/")
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "policy_unavailable"
    client.force_login(StaffFactory(role="operator"))
    page = client.get("/admin/ocr/document/")
    assert page.status_code == 503 and "Try again" in page.content.decode()
    assert client.get("/ready").json()["policies"] is False
    found = policies()
    assert found.status is Status.FAILED and "docker compose logs cerbos" in found.remedy
    # Somebody must be able to come in.
    boss = StaffFactory(is_superuser=True)
    assert api(boss).get("/api/v1/documents/").status_code == 200
    client.force_login(boss)
    assert client.get("/admin/ocr/document/").status_code == 200


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, {}), (200, []), (200, b"no JSON"), (200, {"results": [{}]}), (500, b""), (302, {})],
)
def test_a_server_that_is_no_cerbos(settings, status: int, answer: object) -> None:
    def behave(handler: Handler) -> None:
        handler.answer(status, answer, Location="/elsewhere")

    with Misbehaving(behave) as server:
        settings.CERBOS_URL = server.url
        with pytest.raises(policy.PolicyUnavailable):
            UserFactory().has_perm("ocr.view_document")


def test_a_connection_that_was_cut_is_made_anew(cerbos: CerbosServer) -> None:
    """The server was restarted between two questions."""
    user = UserFactory(role="annotator")
    assert fresh(user).has_perm("ocr.view_document")
    cerbos.restart()
    assert fresh(user).has_perm("ocr.view_document")


def test_doctor_and_readiness(cerbos: CerbosServer, client: Client, settings) -> None:
    assert policies().status is Status.OK
    assert client.get("/ready").json()["policies"] is True
    settings.CERBOS_URL = ""
    assert policies().status is Status.OK and "policies" not in client.get("/ready").json()


def views(resolver: URLResolver) -> Iterator[type[APIView]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield getattr(pattern.callback, "cls", None)
        else:
            yield from views(pattern)


def test_every_call_is_asked_for() -> None:
    """Also where a view has rights of its own; Prometheus comes with a token, as nobody."""
    found = {view for view in views(get_resolver()) if view and issubclass(view, APIView)}
    unasked = {view for view in found if PolicyAllows not in view.permission_classes}
    assert unasked == {MetricsView}


def test_calls_have_names_of_their_own() -> None:
    """No two views are called the same: who forbids one would forbid the other."""
    named: dict[str, type[APIView]] = {}
    found = {view for view in views(get_resolver()) if view and issubclass(view, APIView)}
    plain = [view for view in found if not hasattr(view, "basename")]
    assert len(plain) > 15
    for view in plain:
        name = call_name("GET", view())
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*:get", name)
        assert named.setdefault(name, view) is view


def test_one_version_everywhere() -> None:
    compose = yaml.safe_load((ROOT / "compose.yml").read_text())
    version = compose["services"]["cerbos"]["image"].partition(":")[2]
    standin = Path(ROOT / "docker/standins/Dockerfile.cerbos").read_text()
    assert f"ARG CERBOS={version}\n" in standin
