"""Streams keep no connection: those of the playground, and events of jobs."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.conf import settings

from mlops.models import Job
from tests.factories import PASSWORD, StaffFactory
from tests.llm.service import service

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_gives_its_connection_back(settings: Any) -> None:
    """More than the web process has connections; each request after those would fail."""
    with service(settings) as served, httpx.Client(base_url=served.url, timeout=60) as client:
        served.model("echo")
        log_in(client)
        body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(pool_size() + 2):
            headers = {"X-CSRFToken": client.cookies["csrftoken"]}
            answer = client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.text.rstrip().endswith("data: [DONE]")


def test_open_events_of_jobs_keep_none(settings: Any) -> None:
    with service(settings) as served, ExitStack() as streams:
        job = Job.objects.create(kind="test.job", queue="nobody", owner=served.user)
        client = streams.enter_context(served.http())
        for _ in range(pool_size() + 2):
            path = f"/api/v1/finetune/jobs/{job.pk}/events/stream"
            stream = streams.enter_context(client.stream("GET", path))
            assert stream.status_code == 200
            assert next(stream.iter_lines()).startswith("retry")
        assert client.get("/v1/models").status_code == 200
        # So that the streams end, and nobody waits for them.
        Job.objects.filter(pk=job.pk).update(status=Job.Status.CANCELLED)


def log_in(client: httpx.Client) -> None:
    user = StaffFactory(username="minji", role="annotator")
    page = client.get("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = {"username": user.username, "password": PASSWORD, "csrfmiddlewaretoken": token}
    assert client.post("/admin/login/", data=form).status_code == 302


def pool_size() -> int:
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool")
    return pool["max_size"] if pool else 10
