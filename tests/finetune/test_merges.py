"""Merging an adapter into its base as a job; the process that merges is a fake one.

`test_training_commands` merges a real adapter.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from finetune import merging
from finetune.models import ModelVersion, TrainingJob, VersionMerge
from finetune.services.merges import version_merge
from finetune.tasks import merge
from llm.models import LanguageModel
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import User
from mlops.services import job_cancel
from mlops.stored_folders import folder_index, folder_put
from tests.finetune.test_training_admin import page, signed_in
from tests.services import wait_for

MODELS = "/api/v1/finetune/models"


@pytest.fixture
def base(tmp_path: Path, db: None) -> Path:
    """The folder of the base, which says what the merger does."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "order.json").write_text('"merge"')
    LanguageModel.objects.create(name="base", source=str(folder), dtype="float32")
    return folder


@pytest.fixture
def adapter(
    base: Path, owner: User, storage: Path, settings: Any, monkeypatch: Any, tmp_path: Path
) -> ModelVersion:
    monkeypatch.setattr(merging, "MODULE", "tests.finetune.fake_merger")
    monkeypatch.setattr("finetune.training.run.LOOK_SECONDS", 0.05)
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.MODELS_FOLDER = tmp_path / "data"
    settings.MLFLOW_TRACKING_URI = "none"
    job = TrainingJob.objects.create(kind="finetune.train", queue="train", name="reader")
    version = ModelVersion.objects.create(
        owner=owner,
        name="reader",
        number=1,
        form="adapter",
        base=LanguageModel.objects.get(name="base"),
        job=job,
        step=40,
        fitness="fit",
        facts={"method": "sft", "dataset": "trams v1", "steps": 40},
    )
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    folder_put(tmp_path / "adapter", version.folder)
    return version


def merged(owner: User, adapter: ModelVersion, **options: Any) -> VersionMerge:
    job = version_merge(owner=owner, version=adapter, **options)
    merge(str(job.pk))
    return VersionMerge.objects.get(pk=job.pk)


def order(base: Path, what: str) -> None:
    (base / "order.json").write_text(json.dumps(what))


# -- the job ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_comes_of_it_is_a_version(owner: User, adapter: ModelVersion, settings: Any) -> None:
    job = merged(owner, adapter)
    assert (job.status, job.progress_done, job.progress_total) == ("succeeded", 5, 5), job.error
    made = job.result
    assert (str(made), made.form, made.fitness) == ("reader v2", "model", "fit")
    assert (made.merged_from, made.job, made.step) == (adapter, adapter.job, 40)
    assert made.owner == owner and made.base.name == "base"
    assert made.facts["merged_from"] == "reader v1" and made.facts["dataset"] == "trams v1"
    assert made.facts["parameters"] == 812
    assert "reader v2" in made.card
    weights = default_storage.open(f"{made.folder}/model/weights").read().decode()
    assert weights == f"{adapter.base.source} + {settings.MODELS_FOLDER}/stored/{adapter.folder}"
    model = made.language_model
    assert (model.name, model.base, model.source) == ("reader@2", None, made.source)
    assert not list((settings.TRAINING_FOLDER / "merges").iterdir())


@pytest.mark.django_db
def test_one_that_differs_is_kept_and_not_callable(
    owner: User, adapter: ModelVersion, base: Path
) -> None:
    order(base, "differ")
    job = merged(owner, adapter, name="reader-whole")
    assert job.status == "succeeded" and str(job.result) == "reader-whole v1"
    assert (job.result.fitness, job.result.language_model) == ("unfit", None)
    assert folder_index(job.result.folder)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("fail", "out_of_memory", "Memory ran out."),
        ("die", "merge_killed", "killed (SIGKILL)"),
        ("break", "merge_broken", "a library's last words"),
    ],
)
def test_how_it_fails(
    owner: User, adapter: ModelVersion, base: Path, what: str, code: str, said: str
) -> None:
    order(base, what)
    job = merged(owner, adapter)
    assert (job.status, job.error_code) == ("failed", code) and said in job.error
    assert ModelVersion.objects.count() == 1 and job.result is None
    # Once what was wrong is mended it can be tried again.
    order(base, "merge")
    job.retry()
    assert merge(str(job.pk))["status"] == "succeeded"


@pytest.mark.django_db(transaction=True)
def test_a_cancel_ends_its_process(
    owner: User, adapter: ModelVersion, base: Path, settings: Any
) -> None:
    order(base, "wait")
    job = version_merge(owner=owner, version=adapter)
    seen: list[bool] = []

    def cancel() -> None:
        try:
            jobs = VersionMerge.objects.filter(phase="loading", progress_done=1, progress_total=5)
            seen.append(wait_for(jobs.exists, 60))
            job_cancel(job=VersionMerge.objects.get(pk=job.pk))
        finally:
            connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert merge(str(job.pk))["status"] == "cancelled"
    thread.join()
    assert seen == [True]
    # Its memory is free: the process is gone, and has been waited for.
    assert not Path("/proc", (base / "pid").read_text()).exists()
    assert ModelVersion.objects.count() == 1
    assert not list((settings.TRAINING_FOLDER / "merges").iterdir())


@pytest.mark.django_db
def test_a_second_attempt_goes_on_with_the_same_version(
    owner: User, adapter: ModelVersion, monkeypatch: Any
) -> None:
    def away(*_: Any) -> None:
        raise ConnectionError("the storage is away")

    job = version_merge(owner=owner, version=adapter)
    with monkeypatch.context() as patch:
        patch.setattr(merging, "folder_put", away)
        assert merge(str(job.pk))["status"] == "queued"
    assert merge(str(job.pk))["status"] == "succeeded"
    job.refresh_from_db()
    assert list(ModelVersion.objects.values_list("number", flat=True)) == [2, 1]
    assert job.result.number == 2 and job.attempts == 2


@pytest.mark.django_db
def test_what_is_deleted_in_the_meantime(owner: User, adapter: ModelVersion) -> None:
    job = version_merge(owner=owner, version=adapter)
    adapter.delete()
    merge(str(job.pk))
    job = VersionMerge.objects.get()
    assert (job.status, job.error_code) == ("failed", "version_deleted")
    assert "reader v1 has been deleted" in job.error


@pytest.mark.django_db
def test_what_can_not_be_merged(owner: User, adapter: ModelVersion) -> None:
    def refused(version: ModelVersion, user: User = owner, **options: Any) -> str:
        with pytest.raises(ApplicationError) as caught:
            version_merge(owner=user, version=version, **options)
        return caught.value.message

    whole = ModelVersion(name="whole", number=1, form="model", base=adapter.base)
    assert "of whole v1 it is a whole model" in refused(whole)
    orphan = ModelVersion(name="orphan", number=1, form="adapter")
    assert "its base has been deleted" in refused(orphan)
    assert refused(adapter, name="a name").startswith("name: ")
    stranger = User.objects.create_user("lee")
    assert "that are another's" in refused(adapter, stranger)
    version_merge(owner=owner, version=adapter)
    with pytest.raises(NotAllowed, match="being merged already"):
        version_merge(owner=owner, version=adapter)


# -- the API and the console --------------------------------------------------------------------


@pytest.fixture
def client(owner: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


@pytest.mark.django_db
def test_by_the_api(client: APIClient, adapter: ModelVersion) -> None:
    place, key = f"{MODELS}/{adapter.pk}/merge", {"HTTP_IDEMPOTENCY_KEY": "once"}
    answer = client.post(place, {"name": "reader-whole"}, format="json", **key)
    assert answer.status_code == 202, answer.content
    job = answer.json()
    assert answer["Location"] == job["url"] and job["merged"] == "reader v1"
    assert (job["result"], job["fitness"], job["model"]) == (None, None, None)
    again = client.post(place, {"name": "reader-whole"}, format="json", **key)
    assert again.json()["id"] == job["id"] and VersionMerge.objects.count() == 1
    merge(job["id"])
    job = client.get(job["url"]).json()
    assert (job["status"], job["fitness"], job["model"]) == ("succeeded", "fit", "reader-whole@1")
    made = client.get(f"{MODELS}/{job['result']}/").json()
    assert made["merged_from"] == str(adapter.pk) and made["called_by"] == ["reader-whole@1"]
    listed = client.get("/api/v1/finetune/merges", {"version": str(adapter.pk)}).json()
    assert [one["id"] for one in listed["results"]] == [job["id"]]
    answer = client.post(f"{MODELS}/{made['id']}/merge", {}, format="json")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "not_an_adapter"


@pytest.mark.django_db
def test_cancelled_tried_again_and_deleted_by_the_api(
    client: APIClient, adapter: ModelVersion
) -> None:
    url = client.post(f"{MODELS}/{adapter.pk}/merge", {}, format="json").json()["url"]
    url = url.rstrip("/")
    answer = client.delete(url)
    assert answer.status_code == 409 and "hasn't ended" in answer.json()["error"]["message"]
    assert client.post(f"{url}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{url}/retry").json()["status"] == "queued"
    merge(url.rpartition("/")[2])
    assert client.delete(url).status_code == 204
    assert not VersionMerge.objects.exists()
    # What came of it stays.
    assert str(ModelVersion.objects.get(number=2)) == "reader v2"


@pytest.mark.django_db
def test_only_ones_own_is_merged(adapter: ModelVersion) -> None:
    stranger = APIClient()
    stranger.force_authenticate(User.objects.create_user("lee"))
    assert stranger.post(f"{MODELS}/{adapter.pk}/merge", {}, format="json").status_code == 404
    viewer = signed_in("annotator")
    shown = page(viewer, "modelversion_change", adapter.pk)
    assert "Merge</button>" not in shown
    address = reverse("admin:finetune_modelversion_merge", args=[adapter.pk])
    assert viewer.post(address, {"name": "reader"}).status_code == 403
    assert not VersionMerge.objects.exists()


@pytest.mark.django_db
def test_in_the_console(adapter: ModelVersion) -> None:
    operator: Client = signed_in("operator")
    assert "Merge</button>" in page(operator, "modelversion_change", adapter.pk)
    address = reverse("admin:finetune_modelversion_merge", args=[adapter.pk])
    assert operator.get(address).status_code == 405
    shown = operator.post(address, {"name": "a name"}, follow=True).content.decode()
    assert "Letters, digits and" in shown
    answer = operator.post(address, {"name": "reader"})
    job = VersionMerge.objects.get()
    assert answer["Location"] == reverse("admin:finetune_versionmerge_change", args=[job.pk])
    assert "queued" in page(operator, "versionmerge_change", job.pk).lower()
    merge(str(job.pk))
    shown = page(operator, "versionmerge_change", job.pk)
    made = ModelVersion.objects.get(number=2)
    assert reverse("admin:finetune_modelversion_change", args=[made.pk]) in shown
    assert "reader v2" in page(operator, "versionmerge_changelist")
    assert "reader v2" in page(operator, "modelversion_change", adapter.pk)
    assert "Merged from" in page(operator, "modelversion_change", made.pk)
