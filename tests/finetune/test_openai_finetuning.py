"""`/v1/fine_tuning/`: OpenAI's client from a file to a model that it calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import openai
import pytest
from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from openai.types.chat import ChatCompletion
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel
from rest_framework.test import APIClient

from finetune.api.openai.requests import RATES
from finetune.models import DatasetImport, DatasetVersion, TrainingEvent, TrainingJob
from finetune.services.fine_tuning import model_name
from finetune.tasks import import_dataset
from finetune.training_files import versions_resolve
from llm.models import StoredFile
from llm.models.language_models import MODEL_NAME
from llm.services.files import stored_file_create
from mlops.exceptions import JobFailed
from mlops.models import Job, User
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.training_rows import base_model, succeeded, training, under_way
from tests.services import wait_for
from tests.stack import Stack

JOBS = "/v1/fine_tuning/jobs"
database = pytest.mark.django_db


def strictly(kind: type[BaseModel], data: dict[str, Any]) -> Any:
    """The client's own object of it: every field of the right type, and none besides."""
    found = kind.model_validate(data, strict=True)
    _no_others(kind, data)
    return found


def _no_others(kind: type[BaseModel], data: dict[str, Any]) -> None:
    assert set(data) <= set(kind.model_fields), set(data) - set(kind.model_fields)
    for name, value in data.items():
        if isinstance(value, dict):
            hint = kind.model_fields[name].annotation
            for part in (hint, *get_args(hint)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    _no_others(part, value)


@pytest.fixture
def client(owner: User, storage: Path) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    base_model()
    return client


def lines(rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def stored(owner: User, rows: Any, purpose: str = "fine-tune") -> StoredFile:
    content = rows if isinstance(rows, bytes) else lines(rows)
    return stored_file_create(
        owner=owner, file=ContentFile(content), purpose=purpose, filename="trams.jsonl"
    )


@pytest.fixture
def file(owner: User, storage: Path) -> StoredFile:
    return stored(owner, chats(20))


def create(client: APIClient, file: StoredFile, **more: Any) -> Any:
    given = {"model": "tiny", "training_file": file.pk, **more}
    return client.post(JOBS, given, format="json")


def import_all() -> None:
    """As a worker does, in turn."""
    for job in DatasetImport.objects.due().order_by("created_at"):
        import_dataset(str(job.pk))


# -- creating -------------------------------------------------------------------------------------


@database
def test_a_job_waits_for_its_file(client: APIClient, file: StoredFile) -> None:
    answer = create(client, file, suffix="my stop times", metadata={"team": "trams"}, seed=7)
    assert answer.status_code == 200, answer.content
    made = strictly(FineTuningJob, answer.json())
    assert (made.status, made.model, made.training_file) == ("validating_files", "tiny", file.pk)
    assert (made.seed, made.metadata, made.result_files) == (7, {"team": "trams"}, [])
    assert made.hyperparameters.n_epochs == made.hyperparameters.batch_size == "auto"
    assert made.method.type == "supervised" and made.method.dpo is None
    assert made.fine_tuned_model is made.trained_tokens is made.finished_at is made.error is None
    [imported] = DatasetImport.objects.all()
    # All of it is to train on.
    assert (imported.options["test"], imported.options["validation"]) == (0, 0)

    job = TrainingJob.objects.get()
    assert job.name.startswith("ft:tiny:kim:my-stop-times:") and job.after_id == imported.pk
    assert not TrainingJob.objects.due().exists()
    import_all()
    assert client.get(f"{JOBS}/{made.id}").json()["status"] == "queued"
    [due] = TrainingJob.objects.due()
    versions_resolve(due)
    due.refresh_from_db()
    assert due.dataset_version.rows == 20 and due.dataset_label == str(due.dataset_version)
    said = [event["message"] for event in client.get(f"{JOBS}/{made.id}/events").json()["data"]]
    assert said == [
        "Files validated, moving job to queued state.",
        f"Validating training file: {file.pk}",
        f"Created fine-tuning job: {made.id}",
    ]
    # The platform's own API lists it as well.
    assert client.get("/api/v1/finetune/jobs/").json()["results"][0]["id"] == str(job.pk)


@database
def test_a_file_is_imported_once(client: APIClient, file: StoredFile) -> None:
    create(client, file)
    import_all()
    second = create(client, file).json()
    assert second["status"] == "queued" and DatasetImport.objects.count() == 1
    assert TrainingJob.objects.due().count() == 2
    # Unless what came of it is gone.
    DatasetVersion.objects.all().delete()
    assert create(client, file).json()["status"] == "validating_files"
    gone = TrainingJob.objects.get(pk=second["id"].removeprefix("ftjob-"))
    with pytest.raises(JobFailed, match="deleted") as caught:
        versions_resolve(gone)
    assert caught.value.code == "dataset_deleted"


@database
def test_a_validation_file_is_waited_for_too(
    client: APIClient, owner: User, file: StoredFile
) -> None:
    validation = stored(owner, chats(5, 100))
    made = create(client, file, validation_file=validation.pk).json()
    assert strictly(FineTuningJob, made).validation_file == validation.pk
    import_all()
    assert client.get(f"{JOBS}/{made['id']}").json()["status"] == "validating_files"
    import_all()
    assert client.get(f"{JOBS}/{made['id']}").json()["status"] == "queued"
    [due] = TrainingJob.objects.due()
    versions_resolve(due)
    assert (due.dataset_version.rows, due.validation_version.rows) == (20, 5)


BAD = {"messages": [{"role": "user", "content": "Nobody answers this."}]}
TEXT = {"text": "One."}


@database
@pytest.mark.parametrize(
    ("rows", "param", "said"),
    [
        ([*chats(5), BAD], "training_file", "line 6"),
        ([TEXT, TEXT | {"text": "Two."}], "training_file", "sft learns from"),
        (b"\x00\x01\x02 not a dataset at all", "training_file", ""),
        ([BAD], "validation_file", "line 1"),
    ],
)
def test_a_file_that_can_not_be_learned_from_fails_the_job(
    client: APIClient, owner: User, file: StoredFile, rows: Any, param: str, said: str
) -> None:
    other = stored(owner, rows)
    if param == "training_file":
        made = create(client, other).json()
    else:
        made = create(client, file, validation_file=other.pk).json()
    import_all()
    import_all()
    failed = strictly(FineTuningJob, client.get(f"{JOBS}/{made['id']}").json())
    assert failed.status == "failed" and failed.finished_at is not None
    assert (failed.error.code, failed.error.param) == (f"invalid_{param}", param)
    assert said in failed.error.message.lower()
    newest = client.get(f"{JOBS}/{made['id']}/events?limit=1").json()["data"][0]
    assert newest["level"] == "error" and said in newest["message"].lower()
    # Mended by choice, the same job goes on.
    version = DatasetVersion.objects.filter(state="invalid", rows__gt=0).first()
    if version is not None:
        version.state = "ready"
        version.save()
        pk = UUID(made["id"].removeprefix("ftjob-"))
        assert client.post(f"/api/v1/finetune/jobs/{pk}/retry").status_code == 202
        import_all()
        assert client.get(f"{JOBS}/{made['id']}").json()["status"] == "queued"


@database
def test_hyperparameters_in_both_forms(client: APIClient, file: StoredFile) -> None:
    given = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    ways = [
        {"hyperparameters": given},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": given}}},
    ]
    for way in ways:
        made = strictly(FineTuningJob, create(client, file, **way).json())
        assert made.hyperparameters.model_dump() == given
        assert made.method.supervised.hyperparameters.model_dump() == given
        job = TrainingJob.objects.get(pk=made.id.removeprefix("ftjob-"))
        assert (job.options["epochs"], job.options["batch_size"]) == (2, 4)
        assert job.options["learning_rate"] == pytest.approx(RATES["sft"] / 2)
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    dpo = {"type": "dpo", "dpo": {"hyperparameters": auto | {"beta": 0.2}}}
    made = strictly(FineTuningJob, create(client, file, method=dpo).json())
    assert made.method.dpo.hyperparameters.model_dump() == auto | {"beta": 0.2}
    assert made.hyperparameters.n_epochs == "auto"


def test_a_multiplier_multiplies_what_auto_is() -> None:
    from finetune.engines import dpo, sft

    assert {"sft": sft.METHOD.rates["adapter"], "dpo": dpo.METHOD.rates["adapter"]} == RATES


@database
@pytest.mark.parametrize(
    ("more", "status", "param", "code"),
    [
        ({"model": "gpt-9"}, 404, "model", "model_not_found"),
        ({"model": ""}, 400, "model", "missing_required_parameter"),
        ({"training_file": "file-none"}, 404, "training_file", "not_found"),
        ({"validation_file": "file-none"}, 404, "validation_file", "not_found"),
        ({"suffix": "x" * 65}, 400, "suffix", "invalid_value"),
        ({"seed": -1}, 400, "seed", "invalid_value"),
        ({"integrations": [{"type": "wandb"}]}, 400, "integrations", "invalid_value"),
        ({"method": {"type": "reinforcement"}}, 400, "method.type", "unsupported_value"),
        ({"method": "dpo"}, 400, "method", "invalid_value"),
        ({"metadata": {str(n): "x" for n in range(17)}}, 400, "metadata", "invalid_value"),
        ({"metadata": {"a": 1}}, 400, "metadata", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 1.5}}, 400, "hyperparameters.n_epochs", "invalid_value"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            400,
            "hyperparameters.learning_rate_multiplier",
            "invalid_value",
        ),
        ({"hyperparameters": {"beta": 0.1}}, 400, "hyperparameters.beta", "invalid_value"),
        ({"n_epochs": 3}, 400, "n_epochs", "unknown_parameter"),
    ],
)
def test_what_is_wrong_is_named(
    client: APIClient, file: StoredFile, more: Any, status: int, param: str, code: str
) -> None:
    answer = create(client, file, **more)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert not TrainingJob.objects.exists() and not DatasetImport.objects.exists()


@database
def test_a_file_of_another_purpose_or_owner(client: APIClient, owner: User) -> None:
    answer = create(client, stored(owner, chats(2), "batch"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "training_file")
    answer = create(client, stored(User.objects.create_user("lee"), chats(2)))
    assert answer.status_code == 404
    accepted = create(client, stored(owner, chats(2)), integrations=[], metadata=None, suffix=None)
    assert accepted.status_code == 200


def test_names_are_names() -> None:
    owner = User(username="김 민지@example.com")
    for base, suffix in (("tiny", ""), ("org/" + "b" * 190, "x" * 64), ("tiny", "정류장 시간")):
        name = model_name(base, owner, suffix)
        MODEL_NAME(name)
        assert name.startswith("ft:") and len(name) <= 200 and name.count(":") == 4
    assert model_name("tiny", owner, "a b").split(":")[3] == "a-b"


# -- following ------------------------------------------------------------------------------------


@database
def test_events_are_messages_and_points_of_the_curves(
    client: APIClient, owner: User, imported: Importer
) -> None:
    job = under_way(training(owner, imported(chats(20))), 60, 100)
    TrainingEvent.objects.create(job=job, message="Almost there.", level="warn")
    seen: list[FineTuningJobEvent] = []
    after = ""
    while True:
        page = client.get(f"{JOBS}/{job.openai_id}/events?limit=7&after={after}").json()
        assert page["object"] == "list" and len(page["data"]) <= 7
        seen += [strictly(FineTuningJobEvent, one) for one in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert len(seen) == len({one.id for one in seen}) == 32
    assert [one.created_at for one in seen] == sorted((e.created_at for e in seen), reverse=True)
    assert (seen[0].message, seen[0].level, seen[0].type) == ("Almost there.", "warn", "message")
    last = next(one for one in seen if one.type == "metrics")
    assert last.message.startswith("Step 60/100: training loss=")
    assert last.data["step"] == 60 and last.data["valid_loss"] > 0
    assert client.get(f"{JOBS}/{job.openai_id}/events?after=ftevent-m0").status_code == 404
    assert client.get(f"{JOBS}/{job.openai_id}/events?limit=0").status_code == 400


@database
def test_checkpoints(client: APIClient, owner: User, imported: Importer) -> None:
    job = under_way(training(owner, imported(chats(20))), 100, 100)
    page = client.get(f"{JOBS}/{job.openai_id}/checkpoints?limit=2").json()
    assert page["has_more"]
    first, second = (strictly(FineTuningJobCheckpoint, one) for one in page["data"])
    assert (first.step_number, second.step_number) == (100, 80)
    assert first.fine_tuning_job_id == job.openai_id and first.metrics.step == 100
    assert first.metrics.train_loss > 0 and first.metrics.valid_loss == pytest.approx(0.584, 0.01)
    assert first.metrics.train_mean_token_accuracy > 0
    assert first.metrics.full_valid_loss == first.metrics.valid_loss
    assert first.fine_tuned_model_checkpoint == "trams-sft:ckpt-step-100"
    rest = client.get(f"{JOBS}/{job.openai_id}/checkpoints?after={second.id}").json()
    assert [one["step_number"] for one in rest["data"]] == [60, 40, 20] and not rest["has_more"]
    succeeded(job, callable_as="trams-sft@1")
    newest = client.get(f"{JOBS}/{job.openai_id}/checkpoints?limit=1").json()["data"][0]
    assert newest["fine_tuned_model_checkpoint"] == "trams-sft@1"


@database
def test_each_state_of_a_job(client: APIClient, owner: User, imported: Importer) -> None:
    job = training(owner, imported(chats(20)))
    place = f"{JOBS}/{job.openai_id}"

    def seen(**fields: Any) -> FineTuningJob:
        TrainingJob.objects.filter(pk=job.pk).update(**fields)
        return strictly(FineTuningJob, client.get(place).json())

    assert seen().status == "queued" and seen().training_file == "trams v1"
    running = Job.Status.RUNNING
    assert seen(status=running, phase="validating").status == "validating_files"
    assert seen(phase="device").status == "queued"
    under_way(job)
    now = seen()
    assert now.status == "running" and now.estimated_finish > now.created_at
    assert (now.hyperparameters.batch_size, now.hyperparameters.learning_rate_multiplier) == (8, 1)
    failed = seen(status=Job.Status.FAILED, error_code="out_of_memory", error="Too much.")
    assert failed.error.model_dump() == {
        "code": "out_of_memory",
        "message": "Too much.",
        "param": None,
    }
    assert seen(status=Job.Status.CANCELLED).error is None
    succeeded(job, callable_as="trams-sft@1")
    ended = seen(results_file="file-curves")
    assert (ended.status, ended.fine_tuned_model) == ("succeeded", "trams-sft@1")
    assert ended.result_files == ["file-curves"] and ended.trained_tokens == 512 * 60


@database
def test_pause_resume_and_cancel(client: APIClient, owner: User, imported: Importer) -> None:
    job = training(owner, imported(chats(20)))

    def act(name: str) -> Any:
        return client.post(f"{JOBS}/{job.openai_id}/{name}")

    assert strictly(FineTuningJob, act("pause").json()).status == "queued"
    assert not TrainingJob.objects.due().exists()
    assert act("resume").json()["status"] == "queued" and TrainingJob.objects.due().exists()
    assert act("cancel").json()["status"] == "cancelled"
    for name in ("cancel", "pause", "resume"):
        answer = act(name)
        assert (answer.status_code, answer["x-should-retry"]) == (409, "false")
        assert answer.json()["error"]["code"] == "invalid_state"


@database
def test_lists_by_page_and_metadata(client: APIClient, file: StoredFile) -> None:
    ids = [create(client, file, metadata={"n": str(n)}).json()["id"] for n in range(3)]
    ids.append(create(client, file).json()["id"])
    first = client.get(f"{JOBS}?limit=3").json()
    assert [one["id"] for one in first["data"]] == ids[:0:-1] and first["has_more"]
    rest = client.get(f"{JOBS}?limit=3&after={first['last_id']}").json()
    assert [one["id"] for one in rest["data"]] == ids[:1] and not rest["has_more"]
    for query, expected in (("metadata[n]=1", ids[1:2]), ("metadata=null", ids[3:])):
        found = client.get(f"{JOBS}?{query}").json()["data"]
        assert [one["id"] for one in found] == expected
    assert client.get(f"{JOBS}?after=ftjob-none").status_code == 404


@database
def test_what_is_shown_to_whom(client: APIClient, owner: User, imported: Importer) -> None:
    version = imported(chats(20))
    job = training(owner, version)
    training(owner, version, "looked-at", dry_run=True)
    assert [one["id"] for one in client.get(JOBS).json()["data"]] == [job.openai_id]
    stranger, annotator = APIClient(), APIClient()
    stranger.force_authenticate(User.objects.create_user("lee"))
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name="annotator"))
    annotator.force_authenticate(user)
    for path in ("", "/events", "/checkpoints"):
        assert stranger.get(f"{JOBS}/{job.openai_id}{path}").status_code == 404
        assert annotator.get(f"{JOBS}/{job.openai_id}{path}").status_code == 200
    for act in ("cancel", "pause", "resume"):
        assert stranger.post(f"{JOBS}/{job.openai_id}/{act}").status_code == 404
        assert annotator.post(f"{JOBS}/{job.openai_id}/{act}").status_code == 403
    # Its number alone is no id.
    assert client.get(f"{JOBS}/{job.pk}").status_code == 404
    assert APIClient().get(JOBS).status_code == 401


# -- the whole way --------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_from_a_file_to_a_model_that_is_called(tmp_path: Path) -> None:
    """With the real client, site, workers and trainer; and nothing changed but `base_url`."""
    from llm.tiny import random_model

    folder = random_model(tmp_path / "tiny")
    with Stack(ENGINES_PRELOAD="", OMP_NUM_THREADS="1") as stack:
        stack.web()
        stack.worker()
        model = {"name": "tiny", "engine": "transformers", "source": str(folder)}
        assert stack.client.post("/api/v1/llm/models/", json=model).status_code == 201
        key = stack.client.headers["Authorization"].removeprefix("Bearer ")
        url = f"http://127.0.0.1:{stack.port}/v1"
        client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)

        def upload(rows: Any) -> str:
            made = client.files.create(file=("trams.jsonl", lines(rows)), purpose="fine-tune")
            return made.id

        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=upload(chats(40)),
            validation_file=upload(chats(8, 200)),
            suffix="trams",
            seed=1,
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}},
            },
        )
        assert job.status == "validating_files"
        statuses = [job.status]

        def ended() -> bool:
            now = client.fine_tuning.jobs.retrieve(job.id)
            strictly(FineTuningJob, json.loads(now.to_json()))
            if now.status != statuses[-1]:
                statuses.append(now.status)
            return now.status in ("succeeded", "failed", "cancelled")

        assert wait_for(ended, 240), stack.logs()
        done = client.fine_tuning.jobs.retrieve(job.id)
        assert done.status == "succeeded", (done.error, stack.logs())
        # Each state at most once, in OpenAI's order.
        order = ["validating_files", "queued", "running", "succeeded"]
        assert statuses == [one for one in order if one in statuses]
        assert done.fine_tuned_model.startswith("ft:tiny:") and done.trained_tokens > 0
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
        assert {one.type for one in events} == {"message", "metrics"}
        for one in events:
            strictly(FineTuningJobEvent, json.loads(one.to_json()))
        assert f"Created fine-tuning job: {job.id}" in [one.message for one in events]
        checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
        assert checkpoints and checkpoints[0].step_number == 10
        for one in checkpoints:
            strictly(FineTuningJobCheckpoint, json.loads(one.to_json()))
        assert checkpoints[0].metrics.train_loss > 0 and checkpoints[0].metrics.valid_loss > 0
        curves = client.files.content(done.result_files[0]).text
        assert curves.startswith("step,train_loss")
        with pytest.raises(openai.ConflictError):
            client.fine_tuning.jobs.cancel(job.id)
        assert [one.id for one in client.fine_tuning.jobs.list()] == [job.id]
        answer = client.chat.completions.create(
            model=done.fine_tuned_model,
            messages=[{"role": "user", "content": "How far is it from Oslo to stop 3?"}],
            max_tokens=8,
        )
        strictly(ChatCompletion, json.loads(answer.to_json()))
        assert answer.model == done.fine_tuned_model
        known = [one.id for one in client.models.list()]
        assert done.fine_tuned_model in known
        # The checkpoints that are still there are models, too; the last one is the result's.
        names = [one.fine_tuned_model_checkpoint for one in checkpoints]
        assert names[:2] == [done.fine_tuned_model, f"{done.fine_tuned_model}:ckpt-step-9"]
        assert set(names[:2]) <= set(known)
        earlier = client.chat.completions.create(
            model=names[1],
            messages=[{"role": "user", "content": "How far is it from Oslo to stop 3?"}],
            max_tokens=8,
        )
        assert earlier.model == names[1] and earlier.usage.completion_tokens > 0
