"""The console's pages of the core: keys, users, queues, the dashboard."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_results.models import TaskResult

from mlops.models import ApiKey, QueuePulse, User
from tests.factories import OcrJobFactory, PageResultFactory, StaffFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def admins(client: Client) -> Client:
    """Logged in as one of the group `admin`, who is no superuser."""
    client.force_login(StaffFactory(role="admin"))
    return client


@pytest.fixture
def superuser() -> User:
    return StaffFactory(is_superuser=True)


def test_key_is_shown_once(admins: Client) -> None:
    user = UserFactory(role="client")
    sent = {"user": user.pk, "name": "nightly import", "expires": "30"}
    answer = admins.post(reverse("admin:mlops_apikey_add"), sent, follow=True)
    key = ApiKey.objects.get()
    assert (key.user, key.name) == (user, "nightly import")
    assert timedelta(days=29) < key.expiry - timezone.now() < timedelta(days=31)
    [message] = map(str, answer.context["messages"])
    token = message.partition('class="api-key">')[2].partition("<")[0]
    assert token.startswith(key.token_key)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    assert Client().get("/api/v1/documents/", **bearer).status_code == 200
    assert token not in admins.get(reverse("admin:mlops_apikey_changelist")).content.decode()
    chosen = {"action": "revoke_selected", "_selected_action": [key.pk]}
    admins.post(reverse("admin:mlops_apikey_changelist"), chosen)
    assert Client().get("/api/v1/documents/", **bearer).status_code == 401


def test_keys_of_superusers_are_made_by_superusers(admins: Client, superuser: User) -> None:
    url, sent = reverse("admin:mlops_apikey_add"), {"user": superuser.pk, "name": "", "expires": ""}
    assert "user" in admins.post(url, sent).context["adminform"].form.errors
    admins.force_login(superuser)
    admins.post(url, sent)
    assert ApiKey.objects.get().user == superuser


def test_operator_sees_keys_and_makes_none(client: Client) -> None:
    key, _token = ApiKey.objects.create(user=UserFactory())
    client.force_login(StaffFactory(role="operator"))
    assert client.get(reverse("admin:mlops_apikey_changelist")).status_code == 200
    assert client.get(reverse("admin:mlops_apikey_add")).status_code == 403
    chosen = {"action": "revoke_selected", "_selected_action": [key.pk]}
    client.post(reverse("admin:mlops_apikey_changelist"), chosen)
    key.refresh_from_db()
    assert key.revoked_at is None


def test_nobody_becomes_a_superuser_by_the_console(admins: Client, superuser: User) -> None:
    user = UserFactory()
    sent = {"username": user.username, "is_active": "on", "is_superuser": "on"}
    dates = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
    url = reverse("admin:mlops_user_change", args=[user.pk])
    assert admins.post(url, sent | dates).status_code == 302
    user.refresh_from_db()
    assert not user.is_superuser
    url = reverse("admin:mlops_user_change", args=[superuser.pk])
    assert admins.post(url, sent | dates).status_code == 403
    password = reverse("admin:auth_user_password_change", args=[superuser.pk])
    assert admins.get(password).status_code == 403


def test_user_pages_work(admins: Client) -> None:
    sent = {"username": "new", "password1": "horse battery 9", "password2": "horse battery 9"}
    answer = admins.post(reverse("admin:mlops_user_add"), sent | {"usable_password": "true"})
    made = User.objects.get(username="new")
    assert answer.status_code == 302 and made.check_password("horse battery 9")


def test_every_list_opens(client: Client, superuser: User) -> None:
    client.force_login(superuser)
    PageResultFactory()
    ApiKey.objects.create(user=superuser)
    QueuePulse.objects.create(queue="ocr", seen_at=timezone.now(), worker="host:1")
    TaskResult.objects.create(task_id="1", task_name="mlops.pulse", status="SUCCESS")
    opened = 0
    for model, model_admin in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        # Versions have no list of their own: they are led to their datasets.
        assert client.get(reverse(f"{name}_changelist"), follow=True).status_code == 200, name
        for row in model_admin.get_queryset(client.get("/admin/").wsgi_request)[:1]:
            assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200, name
            opened += 1
    assert opened >= 7


def test_dashboard_counts_what_one_may_see(client: Client) -> None:
    annotator, operator = StaffFactory(role="annotator"), StaffFactory(role="operator")
    OcrJobFactory(document__owner=annotator)
    PageResultFactory(mean_confidence=0.5)
    OcrJobFactory(status="failed", finished_at=timezone.now())
    for user, expected in ((annotator, ["1", "0", "0", "0"]), (operator, ["2", "0", "1", "1"])):
        client.force_login(user)
        context = client.get(reverse("admin:index")).context
        assert [card.value for card in context["cards"]][:4] == expected
        assert len(context["latest"]) == (1 if user is annotator else 3)
    assert context["cards"][4].value == "50.0 %"
    assert [queue["name"] for queue in context["queues"]] == list(settings.QUEUES)


def test_sidebar_offers_what_one_may_open(client: Client) -> None:
    client.force_login(StaffFactory(role="annotator"))
    groups = client.get(reverse("admin:index")).context["sidebar_navigation"]
    shown = {
        str(item["title"]) for group in groups for item in group["items"] if item["has_permission"]
    }
    assert shown == {
        *("Dashboard", "Documents", "OCR jobs", "OCR batches", "Review", "Quality"),
        *("Playground", "Requests", "Batches", "Files", "Usage"),
        *("Webhooks", "Webhook log", "API documentation"),
    } | {
        *("Search", "Corrections by models"),
        *("Extractions", "Extraction batches", "Templates"),
        *("Datasets", "Imports"),
        *("Trainings", "Model versions", "Sweeps", "Merges", "Evaluations"),
    }


def test_nothing_is_fetched_from_elsewhere() -> None:
    """The console works in a closed network."""
    root = settings.BASE_DIR
    files = [*root.glob("templates/**/*.html"), *root.glob("*/static/**/*.*")]
    assert len(files) > 10
    for path in files:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, path
        assert " onclick=" not in text and " style=" not in text, path
