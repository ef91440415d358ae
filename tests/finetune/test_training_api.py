"""The API of training: from a request to curves, checkpoints and versions of models."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from rest_framework.test import APIClient

from finetune.models import DatasetImport, DatasetVersion, ModelVersion, TrainingJob
from finetune.tasks import import_dataset
from llm.models import LanguageModel, ModelAlias
from mlops.models import Job, User
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.test_api import body
from tests.finetune.training_rows import (
    base_model,
    dry_run_done,
    points,
    succeeded,
    training,
    under_way,
)
from tests.services import wait_for

pytestmark = pytest.mark.django_db

JOBS = "/api/v1/finetune/jobs"
MODELS = "/api/v1/finetune/models"


def client_of(user: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def client(owner: User) -> APIClient:
    return client_of(owner)


@pytest.fixture
def stranger(db: None) -> APIClient:
    return client_of(User.objects.create_user("lee"))


@pytest.fixture
def annotator(db: None) -> APIClient:
    user = User.objects.create_user("ann")
    user.groups.add(Group.objects.get(name="annotator"))
    return client_of(user)


@pytest.fixture
def version(imported: Importer) -> DatasetVersion:
    base_model()
    return imported(chats(30), test=0.1, validation=0.1)


def asked(**more: Any) -> dict[str, Any]:
    return {"name": "trams-sft", "method": "sft", "base": "tiny", "dataset": "trams", **more}


# -- making one -----------------------------------------------------------------------------------


def test_a_job_is_made_and_found(client: APIClient, version: DatasetVersion) -> None:
    given = asked(options={"epochs": 2, "lora_r": 8}, priority=3)
    answer = client.post(f"{JOBS}/", given, format="json")
    assert answer.status_code == 202, answer.content
    job = answer.json()
    assert answer["Location"] == job["url"]
    assert (job["status"], job["phase"], job["paused"]) == ("queued", "", False)
    assert (job["base"], job["dataset"], job["priority"]) == ("tiny", "trams v1", 3)
    assert job["options"]["lora_r"] == 8 and job["options"]["batch_size"] == "auto"
    assert job["progress"] == {"done": 0, "total": 0} and job["versions"] == []
    assert client.get(job["url"]).json() == job
    for query, count in (({"method": "sft"}, 1), ({"status": "running"}, 0), ({"name": "x"}, 0)):
        found = client.get(f"{JOBS}/", query).json()
        assert found["count"] == count, query
    assert "options" not in client.get(f"{JOBS}/").json()["results"][0]


def test_a_dataset_is_named_in_several_ways(
    client: APIClient, version: DatasetVersion, imported: Importer
) -> None:
    second = imported(chats(40), test=0.1)
    ways = [
        ({}, second),
        ({"version": 1}, version),
        ({"dataset": str(version.dataset_id), "version": "1"}, version),
        ({"dataset": str(version.dataset_id), "version": "latest"}, second),
    ]
    for more, expected in ways:
        job = client.post(f"{JOBS}/", asked(**more), format="json").json()
        assert job["dataset_version"] == str(expected.pk), more
    given = asked(version=1, validation_dataset="trams", validation_version=2)
    job = client.post(f"{JOBS}/", given, format="json").json()
    assert (job["dataset"], job["validation"]) == ("trams v1", "trams v2")


def test_the_same_key_makes_no_second_job(client: APIClient, version: DatasetVersion) -> None:
    ids = set()
    for _ in range(2):
        answer = client.post(
            f"{JOBS}/", asked(), format="json", headers={"Idempotency-Key": "once"}
        )
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert len(ids) == 1 and TrainingJob.objects.count() == 1


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"base": "huge"}, 404, "base"),
        ({"base": ""}, 400, "base"),
        ({"dataset": "trains"}, 404, "dataset"),
        ({"version": 9}, 404, "dataset"),
        ({"version": "x"}, 404, "dataset"),
        ({"validation_dataset": "trains"}, 404, "validation"),
        ({"method": "rlhf"}, 400, "method"),
        ({"method": "dpo"}, 400, "dataset"),
        ({"name": "a name"}, 400, "name"),
        ({"options": {"epochs": -1}}, 400, "epochs"),
        ({"options": {"batch_sise": 1}}, 400, "batch_sise"),
        ({"options": {"resume_from": "1"}}, 400, "resume_from"),
        ({"webhook_url": "http://127.0.0.1/x"}, 400, "webhook_url"),
    ],
)
def test_what_can_not_be_trained_is_said_at_once(
    client: APIClient, version: DatasetVersion, more: Any, status: int, param: str
) -> None:
    answer = client.post(f"{JOBS}/", asked(**more), format="json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert not TrainingJob.objects.exists()


def test_a_version_with_errors_is_refused(client: APIClient, imported: Importer) -> None:
    base_model()
    imported([*chats(5), {"messages": []}], name="bad")
    answer = client.post(f"{JOBS}/", asked(dataset="bad"), format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "dataset_has_errors")


def test_a_base_behind_an_alias(client: APIClient, version: DatasetVersion) -> None:
    alias = ModelAlias.objects.create(name="house")
    alias.targets.create(model=base_model())
    assert client.post(f"{JOBS}/", asked(base="house"), format="json").json()["base"] == "tiny"
    alias.targets.create(model=base_model("other"))
    answer = client.post(f"{JOBS}/", asked(base="house"), format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ambiguous_model")


# -- following and stopping -----------------------------------------------------------------------


def test_how_a_running_job_stands(client: APIClient, owner: User, version: DatasetVersion) -> None:
    job = under_way(training(owner, version))
    shown = client.get(f"{JOBS}/{job.pk}").json()
    assert (shown["status"], shown["phase"]) == ("running", "training")
    assert shown["progress"] == {"done": 60, "total": 100}
    assert shown["tokens_per_second"] == 4870.0 and shown["memory_bytes"] == 734_003_200
    assert shown["settings_found"]["batch_size"] == 8
    assert shown["estimated_finish"] > shown["started_at"]
    checkpoints = client.get(f"{JOBS}/{job.pk}/checkpoints").json()["results"]
    assert [one["step"] for one in checkpoints] == [60, 40, 20]
    assert [one["best"] for one in checkpoints] == [True, False, False]
    [event] = client.get(f"{JOBS}/{job.pk}/events").json()["results"]
    assert event["message"] == "Training has begun: 100 steps."


def test_curves_are_read_on_from_a_cursor(
    client: APIClient, owner: User, version: DatasetVersion
) -> None:
    job = under_way(training(owner, version))
    first = client.get(f"{JOBS}/{job.pk}/metrics").json()
    assert [point["step"] for point in first["points"]] == list(range(2, 61, 2))
    assert first["every"] == 0 and first["points"][-1]["values"]["trained_tokens"] == 512 * 60
    place = f"{JOBS}/{job.pk}/metrics?after={first['cursor']}"
    assert client.get(place).json() == {"points": [], "cursor": first["cursor"], "every": 0}
    # It was cut off and has gone on from step 40.
    job.metrics.filter(step__gt=40).delete()
    points(job, range(42, 47, 2), 100)
    more = client.get(place).json()
    assert [point["step"] for point in more["points"]] == [42, 44, 46]
    for wrong in ("after=-1", "after=x", "most=0", "most=100000"):
        assert client.get(f"{JOBS}/{job.pk}/metrics?{wrong}").status_code == 400


def test_a_long_run_is_thinned(client: APIClient, owner: User, version: DatasetVersion) -> None:
    job = training(owner, version, options={"log_steps": 1})
    points(job, range(1, 1031), 1030)
    found = client.get(f"{JOBS}/{job.pk}/metrics?most=50").json()
    steps = [point["step"] for point in found["points"]]
    assert found["every"] == 21 and len(steps) <= 110
    # Whatever holds a try of the validation rows stays, and the last.
    assert set(range(20, 1031, 20)) <= set(steps) and steps[-1] == 1030
    assert set(range(21, 1031, 21)) <= set(steps)


def test_pause_resume_cancel_retry(client: APIClient, owner: User, version: DatasetVersion) -> None:
    place = f"{JOBS}/{training(owner, version).pk}"

    def act(name: str) -> Any:
        return client.post(f"{place}/{name}").json()

    paused = act("pause")
    assert (paused["status"], paused["paused"]) == ("queued", True)
    assert act("pause")["error"]["code"] == "conflict"
    assert act("resume")["paused"] is False
    assert client.post(f"{place}/resume").status_code == 409
    assert act("cancel")["status"] == "cancelled"
    assert client.post(f"{place}/cancel").status_code == 409
    assert act("retry")["status"] == "queued"


def test_whose_jobs_they_are(
    client: APIClient,
    stranger: APIClient,
    annotator: APIClient,
    owner: User,
    version: DatasetVersion,
) -> None:
    job = training(owner, version)
    for path in ("", "/metrics", "/events", "/checkpoints"):
        assert stranger.get(f"{JOBS}/{job.pk}{path}").status_code == 404
        assert annotator.get(f"{JOBS}/{job.pk}{path}").status_code == 200
    assert stranger.get(f"{JOBS}/").json()["count"] == 0
    assert stranger.post(f"{JOBS}/", asked(), format="json").status_code == 404
    for act in ("cancel", "pause", "resume", "retry"):
        assert stranger.post(f"{JOBS}/{job.pk}/{act}").status_code == 404
        assert annotator.post(f"{JOBS}/{job.pk}/{act}").status_code == 403
    job.refresh_from_db()
    assert job.status == Job.Status.QUEUED


def test_a_list_asks_no_more_for_more_jobs(
    client: APIClient, owner: User, version: DatasetVersion, django_assert_max_num_queries: Any
) -> None:
    for _ in range(5):
        succeeded(training(owner, version))
    with django_assert_max_num_queries(4):
        assert client.get(f"{JOBS}/").json()["count"] == 5
    with django_assert_max_num_queries(4):
        assert client.get(f"{MODELS}/").json()["count"] == 5


def test_methods_say_what_they_take(client: APIClient) -> None:
    found = {one["name"]: one for one in client.get("/api/v1/finetune/methods").json()}
    assert set(found) == {"sft", "dpo", "cpt", "ocr-recognition"}
    assert found["sft"]["dataset_kinds"] == ["chat", "completion"] and found["sft"]["needs_base"]
    assert not found["ocr-recognition"]["needs_base"]
    options = {one["name"]: one for one in found["dpo"]["options"]}
    assert options["batch_size"] == {
        "name": "batch_size",
        "type": "integer",
        "choices": ["auto"],
        "default": "auto",
        "least": 1.0,
        "most": 4096.0,
        "help": "rows a device and step; auto: what fits into memory",
        "group": "Training",
    }
    assert options["loss"]["choices"] == ["sigmoid", "ipo", "hinge", "robust"]
    assert options["gradient_checkpointing"]["type"] == "boolean"
    # As they are described, they are taken.
    defaults = {name: option["default"] for name, option in options.items()}
    assert client.get("/api/v1/finetune/methods").json() and defaults["beta"] == 0.1


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_in_one_call(client: APIClient, version: DatasetVersion) -> None:
    given = {**asked(), "wait": 0}
    later = client.post(f"{JOBS}/dry_run", given, format="json")
    assert later.status_code == 202, later.content
    job = TrainingJob.objects.get()
    assert (later.json()["job"], later.json()["status"]) == (str(job.pk), "queued")
    assert later["Location"].endswith(f"{JOBS}/{job.pk}") and job.dry_run and job.priority == 0
    dry_run_done(job)
    told = body(client.get(f"{JOBS}/{job.pk}/events/stream")).decode()
    assert "event: ended" in told and '"status":"succeeded"' in told
    key = {"Idempotency-Key": "k"}

    def work() -> None:
        """As a worker does while the request waits."""
        try:
            jobs = TrainingJob.objects.exclude(pk=job.pk)
            assert wait_for(jobs.exists, 60)
            dry_run_done(jobs.get())
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as worker:
        done = worker.submit(work)
        answer = client.post(f"{JOBS}/dry_run", {**asked(), "wait": 60}, "json", headers=key)
        done.result()
    assert (answer.status_code, answer.json()["report"]["steps"]) == (200, 34)
    again = client.post(f"{JOBS}/dry_run/", {**asked(), "wait": 60}, "json", headers=key)
    assert again.json() == answer.json() and TrainingJob.objects.count() == 2
    Job.objects.filter(pk=answer.json()["job"]).update(
        status=Job.Status.FAILED, error="Nothing to learn.", error_code="bad_rows"
    )
    failed = client.post(f"{JOBS}/dry_run", {**asked(), "wait": 60}, "json", headers=key)
    assert (failed.status_code, failed.json()["error"]["code"]) == (422, "bad_rows")
    wrong = client.post(f"{JOBS}/dry_run", asked(base="huge"), format="json")
    assert wrong.status_code == 404


# -- what comes of it -----------------------------------------------------------------------------


def test_a_version_its_card_files_and_parity(
    client: APIClient, stranger: APIClient, owner: User, version: DatasetVersion
) -> None:
    job = training(owner, version)
    made = succeeded(job, callable_as="trams-sft@1")
    [listed] = client.get(f"{MODELS}/", {"name": "trams-sft"}).json()["results"]
    assert (listed["number"], listed["model"], listed["fitness"]) == (1, "trams-sft@1", "fit")
    assert "card" not in listed
    shown = client.get(listed["url"]).json()
    assert (shown["job"], shown["dataset"], shown["base"]) == (str(job.pk), "trams v1", "tiny")
    [file] = shown["files"]
    assert file["name"] == "peft/adapter_config.json" and file["bytes"] == 9
    assert json.loads(body(client.get(file["url"]))) == {"r": 16}
    assert client.get(file["url"].replace("adapter_config", "secret")).status_code == 404
    assert client.get(f"{MODELS}/{made.pk}/files/../../x").status_code == 404
    card = client.get(f"{MODELS}/{made.pk}/card")
    assert card["Content-Type"].startswith("text/markdown") and b"# trams-sft v1" in card.content
    parity = client.get(f"{MODELS}/{made.pk}/parity").json()
    assert parity["fitness"] == "fit" and parity["served"]["agree"]
    assert client.get(f"{JOBS}/{job.pk}").json()["versions"][0]["model"] == "trams-sft@1"
    for path in ("", "/card", "/parity", "/files/peft/adapter_config.json"):
        assert stranger.get(f"{MODELS}/{made.pk}{path}").status_code == 404


def test_promoting_by_weight(client: APIClient, owner: User, version: DatasetVersion) -> None:
    first = succeeded(training(owner, version), callable_as="trams-sft@1")
    second = succeeded(training(owner, version), callable_as="trams-sft@2")
    whole = client.post(f"{MODELS}/{first.pk}/promote", format="json")
    assert whole.json() == {
        "alias": "trams-sft",
        "targets": [{"model": "trams-sft@1", "weight": 100}],
    }
    tenth = client.post(f"{MODELS}/{second.pk}/promote", {"weight": 10}, format="json").json()
    shares = {one["model"]: one["weight"] for one in tenth["targets"]}
    assert shares["trams-sft@1"] == 9 * shares["trams-sft@2"]
    for weight in (0, 101):
        answer = client.post(f"{MODELS}/{second.pk}/promote", {"weight": weight}, format="json")
        assert answer.status_code == 400
    uncallable = succeeded(training(owner, version))
    answer = client.post(f"{MODELS}/{uncallable.pk}/promote", format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_callable")


def test_nobody_turns_others_requests_to_his_own_version(
    client: APIClient, annotator: APIClient, owner: User, version: DatasetVersion
) -> None:
    """A version may have the name of an alias that others rely on."""
    other = LanguageModel.objects.create(name="other", engine="transformers", source="x")
    ModelAlias.objects.create(name="trams-sft").targets.create(model=other)
    made = succeeded(training(owner, version), callable_as="trams-sft@1")
    for caller in (client, annotator):
        answer = caller.post(f"{MODELS}/{made.pk}/promote", format="json")
        assert answer.status_code == 403
    operator = User.objects.create_user("op")
    operator.groups.add(Group.objects.get(name="operator"))
    assert client_of(operator).post(f"{MODELS}/{made.pk}/promote").status_code == 200


def test_deleting_a_version(
    client: APIClient, annotator: APIClient, owner: User, version: DatasetVersion, storage: Path
) -> None:
    made = succeeded(training(owner, version), callable_as="trams-sft@1")
    assert annotator.delete(f"{MODELS}/{made.pk}").status_code == 403
    assert client.delete(f"{MODELS}/{made.pk}").status_code == 204
    assert not ModelVersion.objects.exists()
    assert not LanguageModel.objects.filter(name="trams-sft@1").exists()


# -- files of /v1/files ---------------------------------------------------------------------------


def test_a_stored_file_becomes_a_dataset(
    client: APIClient, stranger: APIClient, storage: Path
) -> None:
    rows = "".join(json.dumps(row) + "\n" for row in chats(20)).encode()
    upload = {"file": SimpleUploadedFile("trams.jsonl", rows), "purpose": "fine-tune"}
    file = client.post("/v1/files", upload).json()
    given = {"file_id": file["id"], "name": "trams"}
    job = client.post("/api/v1/finetune/datasets/", given, format="json")
    assert job.status_code == 202, job.content
    assert job.json()["source"] == "trams.jsonl"
    # A copy: the file may go before the import is at it.
    assert client.delete(f"/v1/files/{file['id']}").status_code == 200
    assert import_dataset(job.json()["id"])["status"] == "succeeded"
    assert DatasetVersion.objects.get().rows == 20
    gone = client.post("/api/v1/finetune/datasets/", given, format="json")
    assert (gone.status_code, gone.json()["error"]["param"]) == (404, "file_id")
    both = {**given, "hub": "hub:a/b"}
    assert client.post("/api/v1/finetune/datasets/", both, format="json").status_code == 404
    other = client.post("/v1/files", upload | {"file": SimpleUploadedFile("a", rows)}).json()
    answer = stranger.post(
        "/api/v1/finetune/datasets/", {"file_id": other["id"], "name": "x"}, format="json"
    )
    assert answer.status_code == 404 and DatasetImport.objects.count() == 1
