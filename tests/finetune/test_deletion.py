"""Trainings, evaluations and sweeps that have ended are deleted, with what is theirs alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from finetune.models import (
    Checkpoint,
    DatasetVersion,
    Evaluation,
    EvaluationRow,
    ModelVersion,
    Sweep,
    TrainingJob,
    TrainingMetric,
)
from finetune.training import registry
from llm.models import LanguageModel
from mlops.models import Job, User
from mlops.stored_folders import folder_put
from tests.finetune.conftest import Importer
from tests.finetune.made import chats
from tests.finetune.test_evaluation_pages import compared as compared_fixture
from tests.finetune.test_training_admin import page, signed_in
from tests.finetune.training_rows import base_model, succeeded, training, under_way

pytestmark = pytest.mark.django_db
compared = compared_fixture
PLACE = "/api/v1/finetune"


@pytest.fixture
def version(imported: Importer) -> DatasetVersion:
    base_model()
    return imported(chats(30), test=0.1)


@pytest.fixture
def client(owner: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return signed_in("operator")


def with_files(job: TrainingJob, tmp_path: Path) -> list[str]:
    """Puts files below each checkpoint that is held; their names in the storage."""
    local = tmp_path / "checkpoint"
    local.mkdir(exist_ok=True)
    (local / "adapter_model.safetensors").write_bytes(b"weights")
    held = job.checkpoints.filter(removed=False)
    assert held.exists()
    for checkpoint in held:
        folder_put(local, checkpoint.folder)
    return [f"{one.folder}/adapter_model.safetensors" for one in held]


def ended(job: Job, status: str = "succeeded") -> None:
    Job.objects.filter(pk=job.pk).update(status=status, lease_until=None)
    job.refresh_from_db()


@pytest.fixture
def done(
    owner: User,
    version: DatasetVersion,
    tmp_path: Path,
    django_capture_on_commit_callbacks: Any,
) -> tuple[TrainingJob, ModelVersion, list[str]]:
    """A training that has succeeded, its version, and its checkpoints' files."""
    job = under_way(training(owner, version))
    made = succeeded(job, callable_as="trams-sft@1")
    ModelVersion.objects.filter(pk=made.pk).update(
        mlflow_run_id="abc", facts={**made.facts, "method": "sft"}
    )
    return job, made, with_files(job, tmp_path)


def refused(client: APIClient, url: str) -> str:
    answer = client.delete(url)
    assert answer.status_code == 409, answer.content
    return answer.json()["error"]["message"]


# -- trainings ----------------------------------------------------------------------------------


def test_checkpoints_go_and_versions_stay(
    client: APIClient,
    operator: Client,
    done: tuple[TrainingJob, ModelVersion, list[str]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    job, made, files = done
    assert all(default_storage.exists(name) for name in files)
    # As those of OpenAI's API are called.
    checkpoint = job.checkpoints.filter(removed=False).last()
    LanguageModel.objects.create(name=checkpoint.model_name, source=checkpoint.source)
    with django_capture_on_commit_callbacks(execute=True):
        assert client.delete(f"{PLACE}/jobs/{job.pk}").status_code == 204
    assert not any(default_storage.exists(name) for name in files)
    assert not (TrainingMetric.objects.exists() or Checkpoint.objects.exists())
    assert not Job.objects.filter(pk=job.pk).exists()
    made.refresh_from_db()
    assert made.job is None and made.called_by == ["trams-sft@1"]
    assert not LanguageModel.objects.filter(name=checkpoint.model_name).exists()
    assert default_storage.exists(f"{made.folder}/peft/adapter_config.json")
    # Its page still says where it comes from.
    shown = page(operator, "modelversion_change", made.pk)
    assert "supervised (SFT)" in shown and "deleted since" in shown and "trams v1" in shown


@pytest.mark.parametrize("status", ["queued", "running"])
def test_one_that_has_not_ended_is_not_deleted(
    client: APIClient, owner: User, version: DatasetVersion, status: str
) -> None:
    job = training(owner, version)
    ended(job, status)
    said = refused(client, f"{PLACE}/jobs/{job.pk}")
    assert said == f"'trams-sft' hasn't ended ({status}). Cancel it, or wait for its end."
    assert TrainingJob.objects.filter(pk=job.pk).exists()


def test_its_checkpoint_is_wanted_by_another(
    client: APIClient, owner: User, done: tuple[TrainingJob, ModelVersion, list[str]]
) -> None:
    job, _made, files = done
    other = training(owner, job.dataset_version, "more", options={"resume_from": str(job.pk)})
    said = refused(client, f"{PLACE}/jobs/{job.pk}")
    assert said.startswith("'more' is about to begin with a checkpoint of 'trams-sft'")
    assert all(default_storage.exists(name) for name in files)
    ended(other, "cancelled")
    assert client.delete(f"{PLACE}/jobs/{job.pk}").status_code == 204


def test_what_mlflow_has_yet_to_be_told_needs_the_job(
    client: APIClient, done: tuple[TrainingJob, ModelVersion, list[str]]
) -> None:
    job, made, _files = done
    ModelVersion.objects.update(mlflow_run_id="")
    assert "isn't registered with MLflow yet" in refused(client, f"{PLACE}/jobs/{job.pk}")
    # The run has begun meanwhile: the version can be registered with it, without the job.
    Job.objects.filter(pk=job.pk).update(mlflow_run_id="run-7")
    assert client.delete(f"{PLACE}/jobs/{job.pk}").status_code == 204
    made.refresh_from_db()
    assert made.mlflow_run_id == "run-7"


def test_without_mlflow_nothing_is_waited_for(
    client: APIClient, done: tuple[TrainingJob, ModelVersion, list[str]]
) -> None:
    ModelVersion.objects.update(mlflow_run_id="", register_note=registry.OFF)
    assert client.delete(f"{PLACE}/jobs/{done[0].pk}").status_code == 204


def test_who_may(done: tuple[TrainingJob, ModelVersion, list[str]]) -> None:
    job = done[0]
    stranger = APIClient()
    stranger.force_authenticate(User.objects.create_user("lee"))
    assert stranger.delete(f"{PLACE}/jobs/{job.pk}").status_code == 404
    annotator = signed_in("annotator")
    address = reverse("admin:finetune_trainingjob_delete", args=[job.pk])
    assert annotator.post(address, {"post": "yes"}).status_code == 403
    assert address not in page(annotator, "trainingjob_change", job.pk)
    viewer = APIClient()
    viewer.force_authenticate(User.objects.get(username="annotator"))
    assert viewer.delete(f"{PLACE}/jobs/{job.pk}").status_code == 403
    assert TrainingJob.objects.filter(pk=job.pk).exists()


def test_in_the_console(
    operator: Client,
    done: tuple[TrainingJob, ModelVersion, list[str]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    job, _made, files = done
    address = reverse("admin:finetune_trainingjob_delete", args=[job.pk])
    assert address in page(operator, "trainingjob_change", job.pk)
    asked = operator.get(address).content.decode()
    assert "trams-sft" in asked and "checkpoints" in asked.lower()
    with django_capture_on_commit_callbacks(execute=True):
        answer = operator.post(address, {"post": "yes"})
    assert answer["Location"] == reverse("admin:finetune_trainingjob_changelist")
    assert not TrainingJob.objects.exists()
    assert not any(default_storage.exists(name) for name in files)


def test_several_in_the_console_all_or_none(
    operator: Client, owner: User, done: tuple[TrainingJob, ModelVersion, list[str]]
) -> None:
    running = under_way(training(owner, done[0].dataset_version, "second"))
    assert reverse("admin:finetune_trainingjob_delete", args=[running.pk]) not in page(
        operator, "trainingjob_change", running.pk
    )
    address = reverse("admin:finetune_trainingjob_changelist")
    chosen = {"action": "delete_selected", "_selected_action": [done[0].pk, running.pk]}
    shown = operator.post(address, {**chosen, "post": "yes"}, follow=True).content.decode()
    assert "hasn&#x27;t ended (running)" in shown and TrainingJob.objects.count() == 2
    ended(running, "cancelled")
    assert "checkpoints" in operator.post(address, chosen).content.decode().lower()
    operator.post(address, {**chosen, "post": "yes"})
    assert not TrainingJob.objects.exists()


def test_among_all_jobs_in_the_console(
    operator: Client,
    owner: User,
    done: tuple[TrainingJob, ModelVersion, list[str]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    """What belongs to the job goes with it there, too; and what stands in the way is said."""
    job, _made, files = done
    other = training(owner, job.dataset_version, "more", options={"resume_from": str(job.pk)})
    address = reverse("admin:mlops_job_delete", args=[job.pk])
    shown = operator.post(address, {"post": "yes"}, follow=True).content.decode()
    assert "is about to begin with a checkpoint" in shown
    ended(other, "cancelled")
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(address, {"post": "yes"})
    assert list(TrainingJob.objects.all()) == [other]
    assert not any(default_storage.exists(name) for name in files)


# -- evaluations and sweeps -----------------------------------------------------------------------


def test_an_evaluation(client: APIClient, operator: Client, compared: Evaluation) -> None:
    ended(compared, "running")
    assert "hasn't ended (running)" in refused(client, f"{PLACE}/evaluations/{compared.pk}")
    address = reverse("admin:finetune_evaluation_delete", args=[compared.pk])
    shown = operator.post(address, {"post": "yes"}, follow=True).content.decode()
    assert "hasn&#x27;t ended" in shown and Evaluation.objects.exists()
    ended(compared)
    assert address in page(operator, "evaluation_change", compared.pk)
    assert client.delete(f"{PLACE}/evaluations/{compared.pk}").status_code == 204
    assert not EvaluationRow.objects.exists()
    # The models that it compared have nothing to do with it.
    assert LanguageModel.objects.filter(name="after@1").exists()


@pytest.fixture
def sweep(owner: User, version: DatasetVersion, tmp_path: Path) -> Sweep:
    """Two trials, of which the second is the best and has left a version."""
    sweep = Sweep.objects.create(
        kind=Sweep.KIND, queue="train", owner=owner, name="grid", method="sft"
    )
    for number in (1, 2):
        job = under_way(training(owner, version, f"grid-{number}"))
        Job.objects.filter(pk=job.pk).update(parent=sweep.pk)
        with_files(job, tmp_path)
        made = succeeded(job)
        ModelVersion.objects.filter(pk=made.pk).update(mlflow_run_id="abc")
    Sweep.objects.filter(pk=sweep.pk).update(best=job)
    ended(sweep)
    return sweep


def test_a_sweep_goes_with_its_trials(
    client: APIClient, sweep: Sweep, django_capture_on_commit_callbacks: Any
) -> None:
    folders = [one.folder for one in Checkpoint.objects.filter(removed=False)]
    assert len(folders) == 6
    trial = sweep.tried().first()
    ended(sweep, "running")
    assert "trial of a sweep that is under way" in refused(client, f"{PLACE}/jobs/{trial.pk}")
    assert "'grid' hasn't ended" in refused(client, f"{PLACE}/sweeps/{sweep.pk}")
    ended(sweep)
    ended(trial, "running")
    assert "'grid-1' hasn't ended" in refused(client, f"{PLACE}/sweeps/{sweep.pk}")
    assert TrainingJob.objects.count() == 2 and Sweep.objects.exists()
    ended(trial)
    with django_capture_on_commit_callbacks(execute=True):
        assert client.delete(f"{PLACE}/sweeps/{sweep.pk}").status_code == 204
    assert not (Sweep.objects.exists() or TrainingJob.objects.exists())
    assert not any(default_storage.exists(f"{folder}/files.json") for folder in folders)
    assert ModelVersion.objects.count() == 2


def test_a_sweep_in_the_console(operator: Client, sweep: Sweep) -> None:
    address = reverse("admin:finetune_sweep_delete", args=[sweep.pk])
    assert address in page(operator, "sweep_change", sweep.pk)
    asked = operator.get(address).content.decode().lower()
    assert "trainings" in asked and "checkpoints" in asked
    operator.post(address, {"post": "yes"})
    assert not (Sweep.objects.exists() or TrainingJob.objects.exists())
