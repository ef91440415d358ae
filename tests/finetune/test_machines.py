"""A training on several machines: rows, turns, ends. The trainers are quick and learn nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection

from finetune import tasks
from finetune.models import TrainingJob, TrainingJoin
from finetune.services.deletion import training_job_delete
from finetune.services.training import training_job_cancel, training_job_retry
from finetune.training import address, child, devices, join, machines, run
from finetune.training.child import Meeting
from finetune.training.child import _launch as accelerate
from mlops import tracking
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job
from mlops.services import job_retry
from tests.finetune.conftest import Importer
from tests.finetune.training_steps import do, fresh, order, submit, until, working

pytestmark = pytest.mark.django_db(transaction=True)

TWO = {"machines": 2}


@pytest.fixture(autouse=True)
def launches(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[list[tuple[int, Meeting | None]]]:
    """Two machines in one: each takes one of two devices. What they start their trainers with."""
    found: list[tuple[int, Meeting | None]] = []

    def launch(processes: int, meeting: Meeting | None) -> list[str]:
        found.append((processes, meeting))
        return []

    monkeypatch.setattr(run, "TRAINER", "tests.fake_trainer")
    monkeypatch.setattr(child, "_launch", launch)
    for module in (run, machines, join):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(machines, "REASON_SECONDS", 2.0)
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.TRAINING_DEVICES = ["cpu:0", "cpu:1"]
    settings.TRAINING_STOP_SECONDS = 20
    settings.MLFLOW_TRACKING_URI = "none"
    tracking.tracker.cache_clear()
    yield found
    tracking.tracker.cache_clear()


def of(job: TrainingJob) -> TrainingJoin:
    """The other machine of the newest attempt."""
    return TrainingJoin.objects.filter(parent=job.pk).latest("created_at")


def waits(job: TrainingJob) -> bool:
    """Whether a worker is wanted for it just now."""
    return TrainingJoin.objects.current().due().filter(parent=job.pk).exists()


def begun(job: TrainingJob) -> tuple[threading.Thread, threading.Thread]:
    """Both machines, once the training is under way."""
    first = working(job)
    until(lambda: waits(job))
    second = working(job)
    until(lambda: fresh(job).progress_done >= 6)
    return first, second


def weights(job: TrainingJob) -> list[float]:
    with default_storage.open(f"{job.versions.get().folder}/weights.json") as file:
        return json.loads(file.read())


def messages(job: TrainingJob) -> str:
    return "\n".join(job.events.order_by("pk").values_list("message", flat=True))


def test_both_meet_and_the_first_one_tells(
    imported: Importer, launches: list[tuple[int, Meeting | None]]
) -> None:
    version = imported(order())
    alone = do(submit(version, name="alone"))
    assert launches.pop() == (1, None)
    job = submit(version, options=TWO)
    first = working(job)
    until(lambda: waits(job))
    assert of(job).status == "queued" and not launches
    second = working(job)
    first.join()
    second.join()
    job, other = fresh(job), of(job)
    assert (job.status, job.error, weights(job)) == ("succeeded", "", weights(alone))
    assert (other.status, other.over, other.rank) == ("succeeded", True, 1)
    assert [point.step for point in job.metrics.all()] == list(range(1, 21))
    assert "2 machines take part; the others are" in messages(job)
    assert sorted((meeting.rank, processes) for processes, meeting in launches) == [(0, 1), (1, 1)]
    [place] = {(meeting.machines, *meeting[2:]) for _, meeting in launches}
    assert place == (2, other.address, other.port) and other.port > 0
    left = [*devices.settings.TRAINING_FOLDER.glob("j*/*")]
    assert not left


def test_how_accelerate_is_told() -> None:
    def said(launch: list[str]) -> dict[str, str]:
        pairs = zip(launch, [*launch[1:], ""], strict=True)
        return {name: value for name, value in pairs if name.startswith("--")}

    second = said(accelerate(4, Meeting(3, 1, "10.0.0.7", 4100)))
    assert second["--num_processes"] == "12" and second["--num_machines"] == "3"
    assert second["--machine_rank"] == "1" and "--multi_gpu" in second
    assert (second["--main_process_ip"], second["--main_process_port"]) == ("10.0.0.7", "4100")
    assert "--multi_gpu" in said(accelerate(1, Meeting(2, 0, "10.0.0.7", 4100)))
    alone = said(accelerate(1))
    assert alone["--num_machines"] == "1" and "--multi_gpu" not in alone
    assert "--main_process_port" not in alone


def test_nobody_else_comes(imported: Importer, settings: Any) -> None:
    settings.TRAINING_JOIN_SECONDS = 0.3
    job = do(submit(imported(order()), options={"machines": 3}))
    assert (job.status, job.error_code) == ("failed", "machines_missing")
    assert "2 of the 3 machines were missing" in job.error and "TRAINING_JOIN_SECONDS" in job.error
    assert set(TrainingJoin.objects.values_list("status", flat=True)) == {"cancelled"}
    # Its devices are free again.
    with devices.held_now("auto", 2) as held:
        assert held is not None
    with pytest.raises(NotAllowed, match="part of another job"):
        job_retry(job=of(job))
    training_job_delete(job=job)
    assert not TrainingJoin.objects.exists()


def test_a_worker_is_no_help_to_itself(imported: Importer, settings: Any) -> None:
    """Its only device is the one that the training holds already."""
    settings.TRAINING_DEVICES = ["cpu"]
    job = submit(imported(order()), options=TWO)
    thread = working(job)
    until(lambda: waits(job))
    assert tasks.take_part(str(of(job).pk))["status"] == "skipped"
    assert of(job).status == "queued"
    training_job_cancel(job=fresh(job))
    thread.join()
    assert (fresh(job).status, of(job).status) == ("cancelled", "cancelled")


def test_cancel_saves_and_ends_all(imported: Importer) -> None:
    job = submit(imported(order(steps=500, delay=0.05)), options=TWO)
    threads = begun(job)
    training_job_cancel(job=fresh(job))
    for thread in threads:
        thread.join()
    assert fresh(job).status == "cancelled" and of(job).finished
    assert fresh(job).progress_done >= 6, "what it has done is still known"
    assert fresh(job).checkpoints.first().step >= 6
    # A retry counts its attempts from 1 again, and machines of the first time are no matter.
    training_job_retry(job=fresh(job))
    thread = working(job)
    until(lambda: waits(job))
    assert TrainingJoin.objects.filter(parent=job.pk).count() == 2
    training_job_cancel(job=fresh(job))
    thread.join()


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("worker_lost", "queued", "Another machine was lost"),
        ("peer_lost", "queued", "goes on from its last checkpoint"),
        ("out_of_memory", "failed", "Lower 'batch_size'"),
    ],
)
def test_one_machine_is_lost(imported: Importer, code: str, status: str, message: str) -> None:
    version = imported(order(steps=40, delay=0.05))
    job = submit(version, options=TWO)
    threads = begun(job)
    Job.objects.filter(pk=of(job).pk).update(
        status="failed", error_code=code, error="Lower 'batch_size'."
    )
    for thread in threads:
        thread.join()
    job = fresh(job)
    assert (job.status, job.attempts) == (status, 1)
    assert message in messages(job)
    if status == "queued":
        first = working(job)
        until(lambda: waits(job))
        assert (of(job).attempt, of(job).resume_step) == (2, job.checkpoints.first().step)
        do(job)
        first.join()
        assert fresh(job).status == "succeeded"


def test_a_worker_that_stops_takes_the_others_along(imported: Importer) -> None:
    """What its own signal does is told to the first machine by the row."""
    job = submit(imported(order(steps=500, delay=0.05)), options=TWO)
    threads = begun(job)
    TrainingJoin.objects.filter(parent=job.pk).update(leaving=True)
    for thread in threads:
        thread.join()
    job = fresh(job)
    assert (job.status, job.max_attempts, job.error) == ("queued", 11, "")
    assert job.checkpoints.first().step >= 6 and of(job).status == "succeeded"


def test_of_two_that_wait_for_machines_the_later_gives_way(imported: Importer) -> None:
    version = imported(order(delay=0.02))
    earlier, later = (submit(version, name=name, options=TWO) for name in ("one", "two"))
    thread = working(earlier)
    until(lambda: waits(earlier))
    # As if it had been taken at the same moment.
    assert tasks.train_job(str(later.pk)) == "queued"
    assert "goes first" in messages(later) and fresh(later).max_attempts == 11
    # The message of the later one brings the earlier one its machine.
    assert tasks.train(str(later.pk))["job"] == str(of(earlier).pk)
    thread.join()
    assert (fresh(earlier).status, fresh(later).status) == ("succeeded", "queued")


def test_what_a_lost_worker_has_left_is_cleared(imported: Importer) -> None:
    job = submit(imported(order()), options=TWO)
    Job.objects.filter(pk=job.pk).update(attempts=2)
    left = TrainingJoin.objects.create(
        kind=TrainingJoin.KIND, queue="train", parent=job, attempt=1, rank=1
    )
    settled = threading.Event()

    def work() -> None:
        try:
            tasks.take_part(str(left.pk))
        finally:
            settled.set()
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: waits(job))
    left.refresh_from_db()
    assert (left.status, settled.is_set()) == ("cancelled", False)
    training_job_cancel(job=fresh(job))
    thread.join()


def test_options_that_do_not_go_together(imported: Importer) -> None:
    with pytest.raises(ApplicationError, match="more 'machines'"):
        submit(imported(order()), options={"device": "cuda:1", "processes": 2})
    job = do(submit(imported(order()), options={"machines": 5}, dry_run=True))
    assert job.status == "succeeded" and not TrainingJoin.objects.exists()


def test_the_address_is_that_towards_the_servers(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:6379/0"
    assert address.own_address() == "127.0.0.1"
    settings.TRAINING_ADDRESS = "10.1.2.3"
    assert address.own_address() == "10.1.2.3"
