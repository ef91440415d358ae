"""A training as a job: cut off, paused, cancelled, and what it leaves. The trainer is quick."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage

from finetune.models import ModelVersion, TrainingJob
from finetune.services.datasets import dataset_delete
from finetune.services.training import (
    training_job_cancel,
    training_job_pause,
    training_job_resume,
    training_job_retry,
)
from finetune.services.versions import version_delete, version_promote
from finetune.training import child, devices, registry, run
from finetune.training.turns import turns
from llm.models import LanguageModel, ModelAlias, StoredFile
from mlops import tracking
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.jobs import stopping
from mlops.models import Job, User
from mlops.stored_folders import folder_index
from tests.finetune.conftest import Importer
from tests.finetune.training_steps import base_model, do, fresh, order, submit, until, working

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def trainer(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(run, "TRAINER", "tests.fake_trainer")
    monkeypatch.setattr(child, "_launch", lambda *_: [])
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.TRAINING_STOP_SECONDS = 20
    settings.MLFLOW_TRACKING_URI = "none"
    tracking.tracker.cache_clear()
    yield
    tracking.tracker.cache_clear()


@pytest.fixture
def runs(settings: Any, tmp_path: Path, trainer: None) -> None:
    """MLflow is there."""
    settings.MLFLOW_TRACKING_URI = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings.MLFLOW_ARTIFACTS = str(tmp_path / "runs")
    tracking.tracker.cache_clear()


@pytest.fixture
def uncut(imported: Importer) -> list[float]:
    """What a run of 20 steps that nobody disturbs ends with."""
    job = do(submit(imported(order(), name="uncut"), name="uncut"))
    assert job.status == "succeeded", job.error
    return weights(job)


def weights(job: TrainingJob) -> list[float]:
    version = job.versions.get()
    with default_storage.open(f"{version.folder}/weights.json") as file:
        return json.loads(file.read())


def messages(job: TrainingJob) -> str:
    return "\n".join(job.events.order_by("pk").values_list("message", flat=True))


def test_a_job_leaves_a_version_that_can_be_called(imported: Importer, runs: None) -> None:
    import mlflow

    version = imported(order())
    job = do(submit(version, options={"log_steps": 1}))
    assert (job.status, job.error, job.phase) == ("succeeded", "", "ended")
    assert (job.progress_done, job.progress_total, job.trained_tokens) == (20, 20, 200)
    assert [point.step for point in job.metrics.all()] == list(range(1, 21))
    assert "Two rows were cut off." in messages(job)
    # Of four checkpoints the last two stay; the figures of all.
    kept = job.checkpoints.filter(removed=False)
    assert [one.step for one in kept] == [20, 15] and job.checkpoints.count() == 4
    made = job.versions.get()
    assert (str(made), made.fitness, made.form) == ("reader v1", "fit", "adapter")
    assert made.dataset_version == version and made.facts["dataset_sha256"] == version.sha256
    assert folder_index(made.folder) == {
        name: tuple(measured) for name, measured in made.files.items()
    }
    model = LanguageModel.objects.get(name="reader@1")
    assert (model.base, model.source) == (base_model(), f"stored:{made.folder}")
    assert job.model_name == "reader@1"
    assert [t.model for t in ModelAlias.objects.get(name="reader").targets.all()] == [model]
    # Nothing stays on the worker's disk.
    assert not (devices.settings.TRAINING_FOLDER / "jobs" / str(job.pk)).exists()
    curves = StoredFile.objects.get(pk=job.results_file)
    assert curves.purpose == "fine-tune-results" and curves.file.read().count(b"\n") == 21
    # MLflow: the curve in the run, the version in the registry, each found from the other.
    client = mlflow.MlflowClient(devices.settings.MLFLOW_TRACKING_URI)
    found = client.get_model_version("reader", made.registered_number)
    assert (found.run_id, found.tags["version"]) == (job.mlflow_run_id, str(made.pk))
    place = tracking.download("models:/reader/1", devices.settings.TRAINING_FOLDER / "got")
    assert json.loads((place / "weights.json").read_text()) == weights(job)
    assert "reader v1" in (place / "MODEL_CARD.md").read_text()


def test_a_second_version_is_called_by_its_number_until_it_is_promoted(
    imported: Importer, runs: None
) -> None:
    version = imported(order())
    first, second = do(submit(version)).versions.get(), do(submit(version)).versions.get()
    assert (str(second), second.language_model.name) == ("reader v2", "reader@2")

    def shares() -> dict[str, int]:
        targets = ModelAlias.objects.get(name="reader").targets.all()
        whole = sum(target.weight for target in targets)
        return {target.model.name: target.weight * 100 // whole for target in targets}

    assert shares() == {"reader@1": 100}
    version_promote(version=second, weight=10)
    assert shares() == {"reader@1": 90, "reader@2": 10}
    version_promote(version=second)
    assert shares() == {"reader@2": 100}
    place = tracking.download("models:/reader@champion", devices.settings.TRAINING_FOLDER / "got")
    assert place.name == "reader-2"
    with pytest.raises(ApplicationError, match="1 to 100"):
        version_promote(version=first, weight=0)
    place = f"{first.folder}/weights.json"
    assert default_storage.exists(place)
    version_delete(version=first)
    assert not default_storage.exists(place)
    assert not LanguageModel.objects.filter(name="reader@1").exists()


def test_a_killed_trainer_goes_on_from_its_last_checkpoint(
    imported: Importer, uncut: list[float]
) -> None:
    job = do(submit(imported(order(die=13))))
    assert (job.status, job.attempts) == ("queued", 1)
    assert [one.step for one in job.checkpoints.filter(removed=False)] == [10, 5]
    job = do(job)
    assert (job.status, job.attempts, weights(job)) == ("succeeded", 2, uncut)
    assert "Going on from step 10 of 20." in messages(job)
    # One curve, without a gap and with nothing twice.
    assert [point.step for point in job.metrics.all()] == list(range(1, 21))


def test_a_killed_trainer_is_known_behind_accelerate(
    imported: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 1 itself, and says in its last words what it has seen."""
    monkeypatch.undo()
    monkeypatch.setattr(run, "TRAINER", "tests.fake_trainer")
    job = do(submit(imported(order(die=13))))
    assert (job.status, job.attempts) == ("queued", 1)
    assert "was killed (SIGKILL)" in messages(job)


def test_another_machine_goes_on_from_the_storage(
    imported: Importer, uncut: list[float], settings: Any, tmp_path: Path
) -> None:
    job = do(submit(imported(order(die=13))))
    settings.TRAINING_FOLDER = tmp_path / "another"
    (tmp_path / "another" / "jobs" / str(job.pk)).mkdir(parents=True)
    # It dies once on each machine, unless it is told that it has.
    (tmp_path / "another" / "jobs" / str(job.pk) / "died").touch()
    job = do(job)
    assert (job.status, weights(job)) == ("succeeded", uncut)
    assert "Going on from step 10 of 20." in messages(job)


def test_a_torn_checkpoint_is_passed_over(imported: Importer, uncut: list[float]) -> None:
    job = do(submit(imported(order(die=13))))
    newest = job.checkpoints.get(step=10)
    for place in (
        Path(default_storage.path(f"{newest.folder}/weights.json")),
        devices.settings.TRAINING_FOLDER / f"jobs/{job.pk}/checkpoints/checkpoint-10/weights.json",
    ):
        place.unlink()
        place.write_bytes(b"[1")
    job = do(job)
    assert (job.status, weights(job)) == ("succeeded", uncut)
    assert "Checkpoint 10 can't be used" in messages(job)
    assert "Going on from step 5 of 20." in messages(job)


def test_pause_saves_and_resume_goes_on(imported: Importer, uncut: list[float]) -> None:
    job = submit(imported(order(delay=0.1)))
    thread = working(job)
    until(lambda: fresh(job).progress_done >= 3)
    training_job_pause(job=fresh(job))
    thread.join()
    job = fresh(job)
    assert job.paused and job.checkpoints.exists() and job.attempts == 1
    stopped_at = job.checkpoints.first().step
    training_job_resume(job=job)
    job = do(job)
    assert (job.status, weights(job)) == ("succeeded", uncut)
    assert f"Going on from step {stopped_at} of 20." in messages(job)


def test_cancel_saves_a_checkpoint_and_ends_the_process(imported: Importer) -> None:
    job = submit(imported(order(steps=500, delay=0.05)))
    thread = working(job)
    until(lambda: fresh(job).progress_done >= 3)
    training_job_cancel(job=fresh(job))
    thread.join()
    job = fresh(job)
    assert job.status == "cancelled" and not job.versions.exists()
    assert job.checkpoints.first().step >= 3
    assert not trainers(job)
    assert not (devices.settings.TRAINING_FOLDER / "jobs" / str(job.pk)).exists()
    # Nothing is lost: it may go on after all.
    training_job_retry(job=job)
    assert job.checkpoints.exists() and fresh(job).status == "queued"


def test_a_trainer_that_hears_nothing_is_killed(imported: Importer, settings: Any) -> None:
    settings.TRAINING_STOP_SECONDS = 0.5
    job = submit(imported(order(steps=500, delay=0.05, deaf=1)))
    thread = working(job)
    until(lambda: fresh(job).progress_done >= 6)
    training_job_cancel(job=fresh(job))
    thread.join()
    assert fresh(job).status == "cancelled" and not trainers(job)


def test_a_worker_that_is_told_to_stop_hands_the_job_on(
    imported: Importer, uncut: list[float]
) -> None:
    job = submit(imported(order(delay=0.1)))
    thread = working(job)
    until(lambda: fresh(job).progress_done >= 3)
    stopping.set()
    try:
        thread.join()
    finally:
        stopping.clear()
    job = fresh(job)
    assert (job.status, job.held, job.max_attempts) == ("queued", False, 11)
    job = do(job)
    assert (job.status, weights(job)) == ("succeeded", uncut)


def trainers(job: TrainingJob) -> list[str]:
    """The processes that work in the job's folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(job.pk).encode() in command:
            found.append(place.name)
    return found


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ({"fail": "out_of_memory"}, "out_of_memory", "Lower 'batch_size'"),
        ({"fail": "diverged"}, "diverged", "Lower"),
        ({"break": 1}, "trainer_broken", "a library's last words"),
    ],
)
def test_failures_are_told_in_words(
    imported: Importer, what: dict[str, Any], code: str, message: str
) -> None:
    job = do(submit(imported(order(**what))))
    assert (job.status, job.error_code) == ("failed", code)
    assert message in job.error and job.error in messages(job)


def test_a_trainer_that_is_killed_each_time_ends_the_job(imported: Importer) -> None:
    job = submit(imported(order(die=3)))
    Job.objects.filter(pk=job.pk).update(max_attempts=1)
    job = do(job)
    assert (job.status, job.error_code) == ("failed", "trainer_killed")
    assert "SIGKILL" in job.error and "max_length" in job.error


def test_a_dataset_or_model_deleted_in_the_meantime(imported: Importer) -> None:
    version = imported(order(), name="gone")
    other = imported(order(), name="stays")
    without_data, without_base = submit(version), submit(other, base=base_model("short-lived"))
    dataset_delete(dataset=version.dataset)
    LanguageModel.objects.filter(name="short-lived").delete()
    job = do(without_data)
    assert (job.status, job.error_code) == ("failed", "dataset_deleted") and "gone v1" in job.error
    job = do(without_base)
    assert (job.status, job.error_code) == ("failed", "model_deleted")


def test_rows_that_are_gone_from_the_storage(imported: Importer) -> None:
    version = imported(order())
    job = submit(version)
    for name in default_storage.listdir(f"datasets/{version.sha256[:2]}/{version.sha256}")[1]:
        default_storage.delete(f"datasets/{version.sha256[:2]}/{version.sha256}/{name}")
    job = do(job)
    assert (job.status, job.error_code) == ("failed", "content_missing")


def test_an_unfit_version_is_kept_and_not_called(imported: Importer) -> None:
    job = do(submit(imported(order(unfit=1))))
    version = job.versions.get()
    assert (job.status, version.fitness, version.language_model) == ("succeeded", "unfit", None)
    assert "unfit" in messages(job) and not LanguageModel.objects.filter(name="reader@1").exists()
    with pytest.raises(NotAllowed, match="unfit"):
        version_promote(version=version)


def test_a_dry_run_trains_nothing(imported: Importer) -> None:
    job = do(submit(imported(order()), dry_run=True))
    assert (job.status, job.dry_report["rows"]) == ("succeeded", 20)
    assert not job.versions.exists() and not job.metrics.exists()


def test_weights_of_another_job_to_begin_with(imported: Importer) -> None:
    version = imported(order())
    first = do(submit(version))
    job = do(submit(version, options={"resume_from": str(first.pk)}))
    assert job.settings_found["from"].endswith("checkpoint-20")
    assert job.metrics.count() == 20
    with pytest.raises(ApplicationError, match="no cpt job"):
        submit(version, options={"resume_from": "nonsense"})


def test_what_is_not_a_number_is_no_point_of_a_curve(imported: Importer) -> None:
    job = do(submit(imported(order(nan=7))))
    assert job.metrics.get(step=7).values["accuracy"] == 0.5
    assert "eval_loss" not in job.metrics.get(step=7).values


def test_mlflow_away_holds_nothing_up(imported: Importer, settings: Any, tmp_path: Path) -> None:
    settings.MLFLOW_TRACKING_URI = "http://127.0.0.1:1"
    tracking.tracker.cache_clear()
    job = do(submit(imported(order())))
    version = job.versions.get()
    assert job.status == "succeeded" and version.language_model is not None
    assert version.registered_at is None and "MLflow can't be reached" in messages(job)
    settings.MLFLOW_TRACKING_URI = f"sqlite:///{tmp_path / 'later.db'}"
    tracking.tracker.cache_clear()
    registry.versions_register()
    version.refresh_from_db()
    assert version.registered_at is None, "the job itself may still be at it"
    ModelVersion.objects.update(created_at=version.created_at - registry.BACK_OFF * 2)
    registry.versions_register()
    version.refresh_from_db()
    assert (version.registered_number, version.register_note) == ("1", "")
    assert version.mlflow_run_id == fresh(job).mlflow_run_id != ""


def test_two_jobs_that_want_one_device_take_turns(imported: Importer) -> None:
    version = imported(order(steps=30, delay=0.05))
    jobs = [submit(version, name=name) for name in ("one", "two")]
    threads = [working(job) for job in jobs]
    until(lambda: "device" in {fresh(job).phase for job in jobs})
    seen = {tuple(sorted(fresh(job).phase for job in jobs)) for _ in range(20)}
    assert ("training", "training") not in seen
    for thread in threads:
        thread.join()
    first, second = sorted((fresh(job) for job in jobs), key=lambda job: job.finished_at)
    assert {first.status, second.status} == {"succeeded"}
    assert second.metrics.order_by("at").first().at > first.metrics.order_by("at").last().at


def test_a_job_that_waits_for_a_device_can_be_cancelled(imported: Importer) -> None:
    version = imported(order())
    job = submit(version)
    with devices.held("auto", 1, lambda: None):
        thread = working(job)
        until(lambda: fresh(job).phase == "device")
        training_job_cancel(job=fresh(job))
        thread.join()
    assert fresh(job).status == "cancelled"
    missing = do(submit(version, options={"device": "cuda:7"}))
    assert (missing.status, missing.error_code) == ("failed", "no_device")


def test_the_lock_of_a_device_lives_as_long_as_the_trainer(imported: Importer) -> None:
    """Whoever held it may be killed: the device is free when the trainer is gone, too."""
    taken = threading.Event()
    with devices.held("cpu", 1, taken.set):
        assert devices._lock("cpu") is None
    lock = devices._lock("cpu")
    assert lock is not None and not taken.is_set()
    devices.os.close(lock)


def test_turns_are_fair_between_users(imported: Importer) -> None:
    busy, quiet = User.objects.create_user("busy"), User.objects.create_user("quiet")
    version = imported(order())
    ran = do(submit(version, busy))
    assert ran.status == "succeeded"
    waiting = [submit(version, busy, name="a"), submit(version, busy, name="b")]
    late = submit(version, quiet, name="c")
    look = submit(version, busy, name="d", dry_run=True)
    urgent = submit(version, busy, name="e", priority=0)
    assert [job.pk for job in turns()] == [
        job.pk for job in (urgent, look, late, waiting[0], waiting[1])
    ]
    # A message says only that somebody may go: the one whose turn it is goes.
    do(waiting[1])
    assert fresh(urgent).status == "succeeded" and fresh(waiting[1]).status == "queued"


def test_a_name_belongs_to_whoever_has_versions_of_it(imported: Importer) -> None:
    version = imported(order())
    do(submit(version))
    other = User.objects.create_user("other")
    with pytest.raises(ApplicationError, match="another's") as told:
        submit(version, other)
    assert told.value.param == "name"
    submit(version, other, name="mine")


@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ({"name": "with spaces"}, "name", "Letters"),
        ({"method": "magic"}, "method", "one of sft"),
        ({"method": "sft"}, "dataset", "learns from conversations"),
        ({"base": None}, "base", "Name the model"),
        ({"options": {"rank": 3}}, "rank", "no option 'rank'"),
        ({"options": {"epochs": 0}}, "epochs", "above 0"),
        ({"options": {"lora_r": 0.5}}, "lora_r", "whole number from 1 to 1024"),
        ({"options": {"schedule": "wild"}}, "schedule", "one of linear"),
        ({"options": {"learning_rate": "fast"}}, "learning_rate", "or auto"),
        ({"priority": 11}, "priority", "0 to 9"),
    ],
)
def test_what_can_be_known_before_is_said_before(
    imported: Importer, given: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ApplicationError, match=message) as told:
        submit(imported(order()), **given)
    assert told.value.param == param
    assert not TrainingJob.objects.exists()


def test_a_dataset_with_errors_is_not_trained_on(imported: Importer) -> None:
    bad = imported([*order(), {"text": 5}])
    with pytest.raises(ApplicationError, match="rows with errors"):
        submit(bad)
    assert not TrainingJob.objects.exists()
