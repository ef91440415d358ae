"""A batch's lines are judged before any is run; many in flight; the API to the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from rest_framework.test import APIClient

from llm.batch.calls import call_of
from llm.batch.lines import parse_line, raw_lines
from llm.batch.window import Window
from llm.engines.base import ModelSource
from llm.models import LanguageModel, LlmBatch, Usage
from llm.services.batches import llm_batch_retry, llm_batch_submit
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.jobs import stopping
from mlops.models import ApiKey, User
from tests.factories import UserFactory
from tests.fake_language import FakeLanguageEngine, FakeLanguageModel
from tests.llm.batch_steps import CHAT, chat, run, stored, submit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_engine")]


@pytest.fixture
def user() -> User:
    return UserFactory()


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel.objects.create(name="tiny", engine="fake", source="somewhere")


@pytest.fixture
def client(user: User) -> APIClient:
    _key, token = ApiKey.objects.create(user=user)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


# -- judged first -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        ("{not json", "invalid_json_line", None),
        ("[1]", "invalid_json_line", None),
        ('{"custom_id": "a", "body": {"prompt": "\\ud800"}}', "invalid_json_line", None),
        ({"method": "POST"}, "missing_required_parameter", "custom_id"),
        (chat("") | {"custom_id": ""}, "invalid_value", "custom_id"),
        (chat("a\0b"), "invalid_value", "custom_id"),
        (chat("x") | {"method": "GET"}, "invalid_method", "method"),
        (chat("x") | {"url": "/v1/completions"}, "mismatched_endpoint", "url"),
        (chat("x") | {"body": 3}, "missing_required_parameter", "body"),
        (chat("x", stream=True), "invalid_value", "stream"),
    ],
)
def test_a_line_that_is_none(line: Any, code: str, param: str | None) -> None:
    raw = line if isinstance(line, str) else json.dumps(line)
    with pytest.raises(ApplicationError) as caught:
        parse_line(raw.encode(), endpoint=CHAT)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_lines_at_fault_are_named_and_nothing_runs(user: User, model: LanguageModel) -> None:
    lines = [
        chat("good"),
        "{broken",
        chat("good"),
        chat("other", model="another"),
        chat("fine"),
    ]
    batch = run(submit(user, lines))
    assert (batch.state, batch.error_code) == ("failed", "invalid_lines")
    assert "line 2" in batch.error
    assert [(one["line"], one["code"]) for one in batch.line_errors] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "mismatched_model"),
    ]
    assert batch.output_file is None and not batch.lines.exists()
    assert not Usage.objects.exists()
    with pytest.raises(NotAllowed, match="a file can't change"):
        llm_batch_retry(batch=batch)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([chat("a", model="unknown")], "model_not_found"),
        (["", "  "], "empty_file"),
        ([chat("a"), chat("b"), chat("c")], "too_many_lines"),
        ([chat("a", "x" * 3000)], "line_too_long"),
    ],
)
def test_files_that_are_refused(
    user: User, model: LanguageModel, settings: LazySettings, lines: list[Any], code: str
) -> None:
    settings.LLM_BATCH_MAX_LINES = 2
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2000
    batch = run(submit(user, lines))
    assert (batch.state, batch.line_errors[0]["code"]) == ("failed", code)


def test_a_model_that_does_something_else(user: User) -> None:
    LanguageModel.objects.create(name="tiny", engine="fake", task="embeddings")
    batch = run(submit(user, [chat("a")]))
    assert batch.line_errors[0]["code"] == "unsupported_model"


def test_lines_are_found_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"\xef\xbb\xbf{}\r\n\n  \n{1}\n{22}")
    found = [(one.number, one.offset, one.raw) for one in raw_lines(path, most_bytes=100)]
    assert found == [(1, 0, b"\xef\xbb\xbf{}\r\n"), (4, 11, b"{1}\n"), (5, 15, b"{22}")]


def test_what_a_batch_can_not_be_made_of(user: User, model: LanguageModel) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("endpoint", {"endpoint": "/v1/images/edits"}),
        ("completion_window", {"completion_window": "1h"}),
        ("input_file_id", {"input_file": stored(user, [chat("a")], "evals")}),
        ("metadata", {"metadata": {str(n): "x" for n in range(17)}}),
        ("metadata", {"metadata": {"k": "v" * 513}}),
        ("metadata", {"metadata": {"k": 3}}),
        ("metadata", {"metadata": {"k": "\0"}}),
    ]
    right = {"owner": user, "input_file": stored(user, [chat("a")]), "endpoint": CHAT}
    for param, given in wrong:
        with pytest.raises(ApplicationError) as caught:
            llm_batch_submit(**{**right, **given})
        assert caught.value.param == param
    assert not LlmBatch.objects.exists()


def test_it_goes_to_the_queue_of_its_model(user: User, model: LanguageModel) -> None:
    model.queue = "train"
    model.save()
    LanguageModel.objects.create(name="tuned", base=model, source="x", engine="fake")
    assert submit(user, [chat("a")]).queue == "train"
    assert submit(user, [chat("a", model="tuned")]).queue == "train"
    assert submit(user, ["{broken"]).queue == "llm"


# -- the window -------------------------------------------------------------------------------


class Flaky(FakeLanguageModel):
    """Fails so many calls with a fault that passes."""

    failures = 3

    def submit(self, request: Any, listener: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise ApplicationError("The server is away.", code="backend_unavailable", status=503)
        super().submit(request, listener)


def calls(count: int) -> Any:
    return (call_of(n, CHAT, chat(f"n{n}", f"text {n}")["body"]) for n in range(count))


def test_a_fault_that_passes_is_tried_again() -> None:
    loaded = Flaky(ModelSource("m", ""), delay=0, gate="")
    window = Window(loaded, size=4, pause=0.001)
    outcomes = [one for group in window.answers(calls(10)) for one in group]
    loaded.close()
    assert sorted(one.key for one in outcomes) == list(range(10))
    assert all(one.ok for one in outcomes)


def test_whoever_stops_ends_what_is_in_flight(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    loaded = FakeLanguageEngine().load(ModelSource("m", "", options={"gate": str(gate)}))
    taken = iter(window_calls(100))
    answering = Window(loaded, size=5, pause=1).answers(taken)
    assert next(answering) == []
    answering.close()
    gate.touch()
    loaded.close()
    assert len(list(taken)) == 95, "no more were taken than the window holds"


def window_calls(count: int) -> list[Any]:
    return list(calls(count))


# -- the API ----------------------------------------------------------------------------------


def test_api_to_the_field(client: APIClient, user: User, model: LanguageModel) -> None:
    file = stored(user, [chat("a"), chat("b")])
    answer = client.post(
        "/v1/batches",
        {
            "input_file_id": file.pk,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"job": "nightly"},
        },
        format="json",
    )
    assert answer.status_code == 200, answer.content
    body = answer.json()
    batch = LlmBatch.objects.get()
    assert body["id"] == batch.public_id and body["id"].startswith("batch_")
    created = int(batch.created_at.timestamp())
    assert body == {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "model": "tiny",
        "errors": None,
        "input_file_id": file.pk,
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": created,
        "in_progress_at": None,
        "expires_at": body["expires_at"],
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
        "metadata": {"job": "nightly"},
    }
    assert 86399 <= body["expires_at"] - created <= 86401
    assert batch.api_key is not None and batch.owner == user
    run(batch)
    done = client.get(f"/v1/batches/{batch.public_id}").json()
    assert done["status"] == "completed" and done["completed_at"]
    assert done["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert done["usage"]["total_tokens"] == 8
    shown = client.get(f"/v1/files/{done['output_file_id']}").json()
    assert shown["purpose"] == "batch_output"


def test_api_errors_by_line(client: APIClient, user: User) -> None:
    batch = run(submit(user, ["{broken"]))
    body = client.get(f"/v1/batches/{batch.public_id}").json()
    assert body["status"] == "failed" and body["failed_at"]
    [error] = body["errors"]["data"]
    assert body["errors"]["object"] == "list"
    assert (error["line"], error["code"]) == (1, "invalid_json_line")


def test_api_refuses(client: APIClient, user: User) -> None:
    other = stored(UserFactory(), [chat("a")])
    right = {
        "input_file_id": stored(user, [chat("a")]).pk,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"input_file_id": other.pk}, 404, "input_file_id"),
        ({"input_file_id": None}, 400, "input_file_id"),
        ({"endpoint": "/v1/other"}, 400, "endpoint"),
        ({"metadata": []}, 400, "metadata"),
        ({"output_expires_after": {"anchor": "x", "seconds": 3600}}, 400, "output_expires_after"),
    ]
    for given, status, param in wrong:
        answer = client.post("/v1/batches", {**right, **given}, format="json")
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), given


def test_api_list_cancel_and_whose(client: APIClient, user: User, model: LanguageModel) -> None:
    batches = [submit(user, [chat("a")]) for _ in range(3)]
    submit(UserFactory(), [chat("a")])
    first = client.get("/v1/batches", {"limit": 2}).json()
    assert [one["id"] for one in first["data"]] == [one.public_id for one in batches[:0:-1]]
    assert first["has_more"]
    rest = client.get("/v1/batches", {"limit": 2, "after": first["last_id"]}).json()
    assert [one["id"] for one in rest["data"]] == [batches[0].public_id] and not rest["has_more"]
    cancelled = client.post(f"/v1/batches/{batches[0].public_id}/cancel").json()
    assert cancelled["status"] == "cancelled" and cancelled["cancelled_at"]
    again = client.post(f"/v1/batches/{batches[0].public_id}/cancel")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    stranger = APIClient()
    _key, token = ApiKey.objects.create(user=UserFactory())
    stranger.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    for path in (batches[0].public_id, "batch_nonsense"):
        assert stranger.get(f"/v1/batches/{path}").status_code == 404
    assert not stopping.is_set()
