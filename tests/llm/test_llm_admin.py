"""The console's pages of language models: who sees what, what is checked, what buttons do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from llm.admin.playground import model_groups
from llm.models import (
    AliasTarget,
    BatchLine,
    GenerationJob,
    LanguageModel,
    LlmBatch,
    ModelAlias,
    ModelInstance,
    StoredFile,
    Usage,
)
from llm.services.files import stored_file_create
from llm.usage_chart import OTHERS, bars
from mlops.models import ApiKey, Job, User
from tests.factories import StaffFactory, UserFactory

pytestmark = pytest.mark.django_db

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def fake(settings: LazySettings) -> None:
    settings.ENGINES = {
        **settings.ENGINES,
        "llm": {
            "fake": {"BACKEND": "tests.fake_language.FakeLanguageEngine"},
            "transformers": {"BACKEND": "llm.engines.transformers.TransformersEngine"},
        },
    }


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(StaffFactory(role="operator"))
    return client


@pytest.fixture
def annotator() -> User:
    return StaffFactory(role="annotator")


@pytest.fixture
def desk(annotator: User) -> Client:
    client = Client()
    client.force_login(annotator)
    return client


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel.objects.create(name="tiny", engine="fake", source="/models/tiny")


def instance(model: LanguageModel, state: str, **given: Any) -> ModelInstance:
    given = {"worker": f"host:{ModelInstance.objects.count()}", **given}
    return ModelInstance.objects.create(model=model, state=state, seen_at=timezone.now(), **given)


def page(client: Client, name: str, *args: Any) -> str:
    answer = client.get(reverse(name, args=args))
    assert answer.status_code == 200, name
    return answer.content.decode()


def messages(response: Any) -> str:
    return " | ".join(str(message) for message in response.context["messages"])


# -- models -----------------------------------------------------------------------------------


def form(**given: Any) -> dict[str, Any]:
    return {
        **{"name": "new", "source": "/models/new", "task": "text-generation", "base": ""},
        **{"engine": "fake", "queue": "llm", "dtype": "auto", "device": "auto"},
        **{"quantization": "", "context_length": "0", "options": "{}", "chat_template": ""},
        **{"enabled": "on", "notes": ""},
        **given,
    }


def faults(answer: Any) -> set[str]:
    return set(answer.context["adminform"].form.errors)


def test_a_model_is_added(operator: Client) -> None:
    shown = page(operator, "admin:llm_languagemodel_add")
    assert "looked for when a worker first loads the model" in shown.replace("\n", " ")
    sent = form(options='{"threads": 2}', device="cuda:1", warm="on")
    answer = operator.post(reverse("admin:llm_languagemodel_add"), sent)
    assert answer.status_code == 302, faults(answer)
    made = LanguageModel.objects.get()
    assert (made.name, made.options, made.device) == ("new", {"threads": 2}, "cuda:1")
    assert made.warm and made.enabled and not made.store_texts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "no spaces here"),
        ("engine", "unknown"),
        ("queue", "unknown"),
        ("device", "gpu"),
        ("options", "[1]"),
        ("options", "{broken"),
        ("context_length", "-1"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(operator: Client, field: str, value: str) -> None:
    answer = operator.post(reverse("admin:llm_languagemodel_add"), form(**{field: value}))
    assert field in faults(answer)
    assert not LanguageModel.objects.exists()


def test_names_are_for_one_thing_and_adapters_have_one_base(
    operator: Client, model: LanguageModel
) -> None:
    url = reverse("admin:llm_languagemodel_add")
    ModelAlias.objects.create(name="taken")
    assert "name" in faults(operator.post(url, form(name="taken")))
    assert "source" in faults(operator.post(url, form(engine="transformers", source="")))
    tuned = LanguageModel.objects.create(name="tuned", base=model, source="x", engine="fake")
    answer = operator.post(url, form(name="again", base=tuned.pk))
    assert "base" in faults(answer), "an adapter is no base"
    answer = operator.post(url, form(name="second", base=model.pk))
    assert answer.status_code == 302
    assert LanguageModel.objects.get(name="second").base == model


def test_the_list_says_what_workers_hold(operator: Client, model: LanguageModel) -> None:
    assert "not loaded" in page(operator, "admin:llm_languagemodel_changelist")
    instance(model, "ready", memory_bytes=3 * 1024**2, active_requests=2)
    instance(model, "ready", memory_bytes=1024**2, active_requests=5)
    instance(model, "failed", error="<b>No</b> readable weights.")
    LanguageModel.objects.create(name="tuned", base=model, source="x", engine="fake")
    shown = page(operator, "admin:llm_languagemodel_changelist")
    assert "Ready in 2 workers" in shown and "4.0\xa0MB" in shown
    assert "&lt;b&gt;No&lt;/b&gt; readable weights." in shown
    assert "adapter on tiny" in shown
    answer = operator.get(reverse("admin:llm_languagemodel_state"), {"ids": f"{model.pk},x,99"})
    [cells] = answer.json()["cells"].values()
    assert ">7<" in cells["open_requests"] and "Ready in 2" in cells["state"]
    detail = page(operator, "admin:llm_languagemodel_change", model.pk)
    assert "&lt;b&gt;No&lt;/b&gt;" in detail and "host:1" in detail and "tuned" in detail


def act(client: Client, action: str, *rows: Any) -> Any:
    model = rows[0]._meta.model_name
    sent = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(reverse(f"admin:llm_{model}_changelist"), sent, follow=True)


def test_actions_on_models(operator: Client, model: LanguageModel) -> None:
    tuned = LanguageModel.objects.create(name="tuned", base=model, source="x", engine="fake")
    assert "1 model: kept warm" in messages(act(operator, "warm_selected", tuned))
    model.refresh_from_db()
    assert model.warm and model.unload_asked_at is None, "the base is what is loaded"
    act(operator, "unload_selected", model)
    model.refresh_from_db()
    assert not model.warm and model.unload_asked_at is not None
    act(operator, "disable_selected", model, tuned)
    assert not LanguageModel.objects.filter(enabled=True).exists()
    act(operator, "enable_selected", model)
    assert list(LanguageModel.objects.callable()) == [model]


def test_aliases_show_their_shares(operator: Client, model: LanguageModel) -> None:
    other = LanguageModel.objects.create(name="other", engine="fake")
    sent = {
        **{"name": "default", "targets-TOTAL_FORMS": "2", "targets-INITIAL_FORMS": "0"},
        **{"targets-0-model": model.pk, "targets-0-weight": "300"},
        **{"targets-1-model": other.pk, "targets-1-weight": "100"},
    }
    answer = operator.post(reverse("admin:llm_modelalias_add"), sent)
    assert answer.status_code == 302
    assert AliasTarget.objects.count() == 2
    shown = page(operator, "admin:llm_modelalias_changelist")
    assert "75.0 %" in shown and "25.0 %" in shown
    alias = ModelAlias.objects.get()
    assert "75.0 %" in page(operator, "admin:llm_modelalias_change", alias.pk)
    answer = operator.post(reverse("admin:llm_modelalias_add"), sent | {"name": "tiny"})
    assert "name" in faults(answer)


# -- requests and usage -----------------------------------------------------------------------


def request_row(owner: User, model: LanguageModel, **given: Any) -> GenerationJob:
    return GenerationJob.objects.create(
        **{
            **{"kind": GenerationJob.KIND, "queue": "llm", "owner": owner, "model": model},
            **{"endpoint": "chat", "asked_model": model.name, "status": "succeeded"},
            **{"prompt_tokens": 1200, "completion_tokens": 34, "first_token_ms": 56.7},
            **given,
        }
    )


def test_requests_say_what_they_took(
    operator: Client, annotator: User, model: LanguageModel
) -> None:
    key, _token = ApiKey.objects.create(user=annotator, name="nightly")
    body = {"messages": [{"role": "user", "content": "a <secret> line"}]}
    job = request_row(annotator, model, api_key=key, body=body, streamed=True)
    bare = request_row(annotator, model)
    shown = page(operator, "admin:llm_generationjob_changelist")
    assert "1,200 → 34" in shown and "57 ms" in shown and "nightly" in shown
    detail = page(operator, "admin:llm_generationjob_change", job.pk)
    assert "a &lt;secret&gt; line" in detail
    assert "Texts" not in page(operator, "admin:llm_generationjob_change", bare.pk)


def test_a_request_is_cancelled_and_never_sent_again(
    operator: Client, annotator: User, model: LanguageModel
) -> None:
    job = request_row(annotator, model, status="queued", body={"messages": []})
    assert "asked to stop" in messages(act(operator, "cancel_selected", job))
    job.refresh_from_db()
    assert (job.status, job.body) == (Job.Status.CANCELLED, None)
    url = reverse("admin:llm_generationjob_act", args=[job.pk, "retry"])
    assert "Send the request again" in messages(operator.post(url, follow=True))
    job.refresh_from_db()
    assert job.status == Job.Status.CANCELLED


def test_usage_by_day_model_and_key(
    operator: Client, desk: Client, annotator: User, model: LanguageModel
) -> None:
    today = datetime.now(UTC).date()
    for owner, tokens in ((annotator, 1000), (UserFactory(username="other"), 500)):
        Usage.objects.create(
            day=today,
            owner=owner,
            model=model,
            requests=3,
            prompt_tokens=tokens,
            completion_tokens=234,
        )
    shown = operator.get(reverse("admin:llm_usage_changelist"))
    assert shown.context["total"] == {"requests": "6", "prompt": "1,500", "completion": "468"}
    assert "other" in shown.content.decode()
    data = json.loads(shown.context["chart"]["data"])
    assert len(data["labels"]) == 30 and data["labels"][-1] == today.isoformat()
    assert [(one["label"], one["data"][-1]) for one in data["datasets"]] == [("tiny", 1968)]
    filtered = operator.get(reverse("admin:llm_usage_changelist"), {"user": "other", "period": "7"})
    assert filtered.context["total"]["prompt"] == "500"
    own = desk.get(reverse("admin:llm_usage_changelist"), {"user": "other"})
    assert own.context["total"]["prompt"] == "1,000"


def test_many_models_share_a_colour_in_the_chart() -> None:
    day = datetime.now(UTC).date()
    rows = [{"day": day, "model": f"m{n}", "tokens": 100 - n} for n in range(12)]
    data = json.loads(bars(rows, first=day, last=day)["data"])
    labels = [one["label"] for one in data["datasets"]]
    assert labels == [*(f"m{n}" for n in range(8)), OTHERS]
    assert data["datasets"][-1]["data"] == [100 * 4 - 8 - 9 - 10 - 11]


# -- files and batches ------------------------------------------------------------------------


def batch_file(owner: User, *lines: dict[str, Any]) -> StoredFile:
    content = "\n".join(json.dumps(line) for line in lines).encode()
    return stored_file_create(
        owner=owner, file=BytesIO(content), purpose="batch", filename="in.jsonl"
    )


LINE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "tiny"}}


def test_files_are_uploaded_shown_and_deleted(desk: Client, annotator: User) -> None:
    url = reverse("admin:llm_storedfile_add")
    empty = desk.post(url, {"upload": SimpleUploadedFile("x", b""), "purpose": "batch"})
    assert "upload" in faults(empty)
    upload = SimpleUploadedFile("data.jsonl", b'{"a": "<b>"}\n')
    answer = desk.post(url, {"upload": upload, "purpose": "fine-tune"}, follow=True)
    file = StoredFile.objects.get()
    assert answer.status_code == 200
    assert (file.owner, file.purpose, file.filename) == (annotator, "fine-tune", "data.jsonl")
    shown = page(desk, "admin:llm_storedfile_change", file.pk)
    assert "&lt;b&gt;" in shown and file.pk in shown and "Run as a batch" not in shown
    assert desk.get(reverse("llm-file-content", args=[file.pk])).status_code == 200
    stranger = Client()
    stranger.force_login(StaffFactory(role="annotator"))
    assert file.pk not in page(stranger, "admin:llm_storedfile_changelist")
    desk.post(reverse("admin:llm_storedfile_delete", args=[file.pk]), {"post": "yes"})
    assert not StoredFile.objects.exists()


def test_a_file_is_run_as_a_batch_and_then_kept(
    desk: Client, annotator: User, model: LanguageModel
) -> None:
    file = batch_file(annotator, LINE)
    assert "Run as a batch" in page(desk, "admin:llm_storedfile_change", file.pk)
    run = reverse("admin:llm_storedfile_batch", args=[file.pk])
    assert desk.get(run).status_code == 405
    answer = desk.post(run, follow=True)
    batch = LlmBatch.objects.get()
    assert (batch.owner, batch.endpoint, batch.asked_model) == (annotator, CHAT, "tiny")
    assert "is queued" in messages(answer)
    gone = desk.post(reverse("admin:llm_storedfile_delete", args=[file.pk]), {"post": "yes"})
    assert gone.status_code == 302 and StoredFile.objects.exists(), "the batch reads it"
    broken = batch_file(annotator, {"nothing": 1})
    answer = desk.post(reverse("admin:llm_storedfile_batch", args=[broken.pk]), follow=True)
    assert "names no url" in messages(answer)


def test_a_batch_shows_how_far_it_is_and_what_is_wrong(
    operator: Client, annotator: User, model: LanguageModel
) -> None:
    file = batch_file(annotator, LINE)
    batch = LlmBatch.objects.create(
        **{"kind": LlmBatch.KIND, "queue": "llm", "owner": annotator, "endpoint": CHAT},
        **{"input_file": file, "expires_at": timezone.now(), "asked_model": "tiny"},
        **{"status": "running", "total": 20, "completed": 7, "failed": 1, "attempts": 1},
        **{"progress_done": 8, "progress_total": 20, "in_progress_at": timezone.now()},
    )
    BatchLine.objects.create(
        batch=batch,
        number=3,
        custom_id="c-3",
        offset=0,
        length=1,
        state="failed",
        status_code=400,
        answer='{"error": {"message": "too <long>"}}',
    )
    shown = page(operator, "admin:llm_llmbatch_changelist")
    assert "7 of 20" in shown and 'value="8"' in shown
    detail = page(operator, "admin:llm_llmbatch_change", batch.pk)
    assert "in progress" in detail and "too &lt;long&gt;" in detail and "in.jsonl" in detail
    # From the list of all jobs it is cancelled as batches are.
    operator.post(reverse("admin:mlops_job_act", args=[batch.pk, "cancel"]))
    batch.refresh_from_db()
    assert batch.state == "cancelling" and batch.cancelling_at is not None
    Job.objects.filter(pk=batch.pk).update(status="failed", error_code="invalid_lines")
    errors = [{"code": "invalid_json_line", "message": "not JSON", "line": 2, "param": None}]
    LlmBatch.objects.filter(pk=batch.pk).update(line_errors=errors)
    detail = page(operator, "admin:llm_llmbatch_change", batch.pk)
    assert "Lines that can&#x27;t be run" in detail or "Lines that can't be run" in detail
    retry = reverse("admin:llm_llmbatch_act", args=[batch.pk, "retry"])
    assert "a file can't change" in messages(operator.post(retry, follow=True)).replace(
        "&#x27;", "'"
    )


# -- who ---------------------------------------------------------------------------------------


def test_who_may_look_at_what(desk: Client, operator: Client, model: LanguageModel) -> None:
    tables = ("languagemodel", "modelalias", "generationjob", "llmbatch", "storedfile", "usage")
    for table in tables:
        assert operator.get(reverse(f"admin:llm_{table}_changelist")).status_code == 200
        status = desk.get(reverse(f"admin:llm_{table}_changelist")).status_code
        assert status == (403 if table in ("languagemodel", "modelalias") else 200), table
    assert desk.get(reverse("llm-playground")).status_code == 200
    client = Client()
    client.force_login(StaffFactory(role="client"))
    for name in [*(f"admin:llm_{table}_changelist" for table in tables), "llm-playground"]:
        assert client.get(reverse(name)).status_code == 403, name
    menu = desk.get(reverse("admin:index")).content.decode()
    assert "Playground" in menu and reverse("admin:llm_modelalias_changelist") not in menu


def test_requests_of_others_are_not_seen(desk: Client, model: LanguageModel) -> None:
    other = request_row(UserFactory(), model)
    assert str(other.pk) not in page(desk, "admin:llm_generationjob_changelist")
    answer = desk.get(reverse("admin:llm_generationjob_change", args=[other.pk]))
    assert answer.status_code == 302


@pytest.fixture
def admins() -> Client:
    client = Client()
    client.force_login(StaffFactory(role="admin"))
    return client


def test_limits_of_a_key(admins: Client) -> None:
    user = UserFactory(role="client")
    sent = {"user": user.pk, "name": "app", "expires": "", "requests_per_minute": "30"}
    admins.post(reverse("admin:mlops_apikey_add"), sent)
    key = ApiKey.objects.get()
    assert (key.requests_per_minute, key.tokens_per_day) == (30, None)
    change = reverse("admin:mlops_apikey_change", args=[key.pk])
    answer = admins.post(change, {"requests_per_minute": "", "tokens_per_day": "100000"})
    assert answer.status_code == 302
    key.refresh_from_db()
    assert (key.requests_per_minute, key.tokens_per_day) == (None, 100000)
    assert (key.user, key.name) == (user, "app")


# -- the playground ---------------------------------------------------------------------------


def test_the_playground_offers_what_may_be_asked(desk: Client, model: LanguageModel) -> None:
    instance(model, "ready")
    LanguageModel.objects.create(name="tuned", base=model, source="x", engine="fake")
    LanguageModel.objects.create(name="cold", engine="fake")
    LanguageModel.objects.create(name="vectors", engine="fake", task="embeddings")
    LanguageModel.objects.create(name="off", engine="fake", enabled=False)
    alias = ModelAlias.objects.create(name="default")
    AliasTarget.objects.create(alias=alias, model=model)
    ModelAlias.objects.create(name="empty")
    groups = {one["label"]: [row["name"] for row in one["models"]] for one in model_groups()}
    assert groups == {"Models": ["cold", "tiny"], "Adapters": ["tuned"], "Aliases": ["default"]}
    shown = desk.get(reverse("llm-playground"), {"model": "tuned"}).content.decode()
    assert 'value="tuned" data-note="" selected' in shown
    assert 'value="cold" data-note="not loaded: the first answer waits"' in shown


def test_a_playground_without_models(operator: Client, desk: Client) -> None:
    assert "Add a model" in page(operator, "llm-playground")
    shown = page(desk, "llm-playground")
    assert "no model to talk with" in shown and "Add a model" not in shown
