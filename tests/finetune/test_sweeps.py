"""Sweeps: grids and Optuna's draws, trials given up, the best one marked and served."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.urls import reverse
from rest_framework.test import APIClient

from finetune.engines.search import Trial, suggest
from finetune.models import DatasetVersion, Sweep, TrainingJob
from finetune.services.sweeps import sweep_submit
from finetune.sweeps.advance import advance, given_up, sweeps_advance
from finetune.sweeps.pruning import behind
from finetune.sweeps.space import combinations, space_read
from finetune.tasks import sweep as sweep_task
from finetune.tasks import train
from finetune.training import child, run
from llm.models import LanguageModel, ModelAlias
from mlops import tracking
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import job_cancel
from tests.finetune.conftest import Importer
from tests.finetune.test_admin import page, signed_in
from tests.finetune.training_steps import base_model

PLACE = "/api/v1/finetune/sweeps"


# -- what is tried ------------------------------------------------------------------------------


def test_a_grid_is_every_combination() -> None:
    space = space_read("sft", {}, {"learning_rate": ["1e-4", 0.001], "lora_r": [4, "8"]})
    assert combinations(space) == [
        {"learning_rate": 1e-4, "lora_r": 4},
        {"learning_rate": 1e-4, "lora_r": 8},
        {"learning_rate": 1e-3, "lora_r": 4},
        {"learning_rate": 1e-3, "lora_r": 8},
    ]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "name at least one option"),
        ({"lora_rank": [4]}, "There is no option 'lora_rank'"),
        ({"lora_r": [0]}, "lora_r: a whole number from 1"),
        ({"lora_r": []}, "'lora_r' takes a list of values"),
        ({"device": ["cpu", "cuda"]}, "'device' is the same for all trials"),
        ({"schedule": {"low": "linear", "high": "cosine"}}, "'schedule' is no number"),
        ({"lora_r": {"low": 8, "high": 4}}, "low must be less than high"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "begins above 0"),
        ({"lora_r": {"low": 8, "high": 9, "step": 1}}, "not 'step'"),
    ],
)
def test_spaces_that_are_none(space: dict[str, Any], said: str) -> None:
    with pytest.raises(ApplicationError, match=said):
        space_read("sft", {}, space)


def test_grids_that_are_too_large_or_have_no_end() -> None:
    space = space_read("sft", {}, {"lora_r": list(range(1, 21)), "seed": list(range(11))})
    with pytest.raises(ApplicationError, match="220 combinations, and a grid has at most 200"):
        combinations(space)
    space = space_read("sft", {}, {"lora_r": {"low": 1, "high": 8}})
    with pytest.raises(ApplicationError, match="a range is for 'search': 'optuna'"):
        combinations(space)


def test_draws_come_near_to_what_is_best() -> None:
    space = {
        "learning_rate": {"low": 1e-6, "high": 1.0, "log": True},
        "lora_r": {"low": 1, "high": 64, "log": False},
        "schedule": ["linear", "cosine"],
    }
    trials: list[Trial] = []
    for n in range(30):
        values = suggest(space, trials, whole=frozenset({"lora_r"}), minimize=False, seed=n)
        assert isinstance(values["lora_r"], int) and values["schedule"] in ("linear", "cosine")
        gain = -((math.log10(values["learning_rate"]) + 3) ** 2)
        trials.append(Trial(values, gain, pruned=gain < -4))
    last = [trial.value for trial in trials[20:]]
    first = [trial.value for trial in trials[:6]]
    assert sum(last) / 10 > sum(first) / 6 and max(last) > -0.1
    # The same trials, one of them still under way, give the same draw.
    going = [*trials, Trial(values, None)]
    draws = [
        suggest(space, going, whole=frozenset({"lora_r"}), minimize=False, seed=1)
        for _again in range(2)
    ]
    assert draws[0] == draws[1]


def test_who_is_behind_the_median() -> None:
    others = [[(0.5, 1.0), (1.0, 0.5)], [(0.5, 2.0), (1.0, 1.5)], [(0.5, 3.0)]]
    assert behind([(0.5, 2.5)], others, epochs=1.0, minimize=True) == 2.0
    assert behind([(0.5, 1.9)], others, epochs=1.0, minimize=True) is None
    # Its best counts, not its last; only two others have come as far as epoch 1.
    assert behind([(0.5, 0.9), (1.0, 9.0)], others, epochs=2.0, minimize=True) is None
    assert behind([(1.0, 1.4)], others, epochs=2.0, minimize=True) == 1.0
    # Not in its first quarter, and not against one other.
    assert behind([(0.5, 9.0)], others, epochs=3.0, minimize=True) is None
    assert behind([(0.5, 9.0)], others[:1], epochs=1.0, minimize=True) is None
    # Of an accuracy more is better.
    assert behind([(0.5, 1.9)], others, epochs=1.0, minimize=False) == 2.0


# -- sweeps as jobs -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def untracked(settings: Any) -> Iterator[None]:
    settings.MLFLOW_TRACKING_URI = "none"
    tracking.tracker.cache_clear()
    yield
    tracking.tracker.cache_clear()


@pytest.fixture
def trainer(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "TRAINER", "tests.finetune.sweep_trainer")
    monkeypatch.setattr(child, "_launch", lambda *_: [])
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.TRAINING_DEVICES = ["cpu", "cuda:0"]
    settings.MLFLOW_TRACKING_URI = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings.MLFLOW_ARTIFACTS = str(tmp_path / "runs")
    tracking.tracker.cache_clear()


@pytest.fixture
def version(imported: Importer) -> DatasetVersion:
    return imported([{"text": f"Stop {n} is on line {n % 7}."} for n in range(60)], validation=0.2)


def submit(version: DatasetVersion, **given: Any) -> Sweep:
    values: dict[str, Any] = {
        "name": "reader",
        "method": "cpt",
        "base": base_model(),
        "space": {"learning_rate": [1e-4, 1e-3, 1e-2]},
    }
    return sweep_submit(owner=version.dataset.owner, dataset_version=version, **values | given)


def work(sweep: Sweep) -> Sweep:
    """As one worker on the queue does, until nothing is left to do."""
    sweep_task(str(sweep.pk))
    for _turn in range(50):
        if train("any")["status"] == "skipped":
            break
    return Sweep.objects.get(pk=sweep.pk)


@pytest.mark.django_db(transaction=True)
def test_a_grid_one_after_the_other(version: DatasetVersion, trainer: None) -> None:
    import mlflow

    sweep = submit(version, space={"learning_rate": [1e-4, 0.7, 1e-3]}, prune=False)
    sweep_task(str(sweep.pk))
    sweep.refresh_from_db()
    # All rows are there; one has been released.
    trials = list(sweep.tried())
    assert [job.trial for job in trials] == [1, 2, 3]
    assert [job.held for job in trials] == [False, True, True]
    assert trials[0].options["learning_rate"] == 1e-4
    sweep = work(sweep)
    assert (sweep.status, sweep.error) == ("succeeded", "")
    trials = list(sweep.tried())
    assert [job.status for job in trials] == ["succeeded", "failed", "succeeded"]
    assert [job.trial_values for job in trials] == [
        {"learning_rate": value} for value in (1e-4, 0.7, 1e-3)
    ]
    assert sweep.best == trials[2]
    # Only the best one can be called.
    assert sweep.settled and trials[2].model_name and not trials[0].model_name
    assert ModelAlias.objects.get(name="reader").targets.get().model.name == trials[2].model_name
    # The trials' runs stand under the sweep's.
    assert sweep.mlflow_run_id and trials[0].mlflow_run_id
    client = mlflow.MlflowClient(settings.MLFLOW_TRACKING_URI)
    tags = client.get_run(trials[0].mlflow_run_id).data.tags
    assert tags["mlflow.parentRunId"] == sweep.mlflow_run_id


@pytest.mark.django_db(transaction=True)
def test_a_trial_that_is_behind_is_ended(version: DatasetVersion, trainer: None) -> None:
    """The last of them would never end by itself: the others' median ends it."""
    sweep = submit(version, space={"learning_rate": [1e-3, 2e-3, 1e-1]})
    sweep_task(str(sweep.pk))
    ended = threading.Event()

    def maintains() -> None:
        try:
            while not ended.wait(0.05):
                sweeps_advance(["train"])
        finally:
            connection.close()

    thread = threading.Thread(target=maintains)
    thread.start()
    try:
        sweep = work(sweep)
    finally:
        ended.set()
        thread.join()
    assert sweep.status == "succeeded"
    third = sweep.tried().get(trial=3)
    assert third.status == "cancelled" and given_up(sweep) == {third.pk}
    event = third.events.get(data__pruned=True)
    assert "behind the median of the sweep's other trials" in event.message
    assert sweep.best.trial == 1


@pytest.mark.django_db(transaction=True)
def test_optuna_draws_as_many_as_asked(version: DatasetVersion, trainer: None) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    sweep = work(submit(version, space=space, search="optuna", trials=5, prune=False))
    assert sweep.status == "succeeded"
    rates = [job.trial_values["learning_rate"] for job in sweep.tried()]
    assert len(set(rates)) == 5 and all(1e-4 <= rate <= 1e-2 for rate in rates)
    nearest = min(rates, key=lambda rate: abs(math.log10(rate) + 3))
    assert sweep.best.trial_values["learning_rate"] == nearest


@pytest.mark.django_db(transaction=True)
def test_as_many_at_once_as_allowed(version: DatasetVersion) -> None:
    """And one that somebody has paused keeps nobody waiting, nor is it let go."""
    sweep = submit(version, parallel=2)
    sweep_task(str(sweep.pk))
    one, two, three = sweep.tried()
    assert [job.held for job in (one, two, three)] == [False, False, True]
    two.pause()
    advance(sweep.pk)
    assert [job.held for job in sweep.tried()] == [False, True, False]
    two.resume()
    advance(sweep.pk)
    assert [job.held for job in sweep.tried()] == [False, False, False]


@pytest.mark.django_db(transaction=True)
def test_cancelled_as_a_whole(version: DatasetVersion) -> None:
    sweep = submit(version)
    sweep_task(str(sweep.pk))
    job_cancel(job=sweep)
    assert set(sweep.tried().values_list("status", flat=True)) == {"cancelled"}
    sweep.refresh_from_db()
    assert sweep.status == "cancelled"
    advance(sweep.pk)
    assert not LanguageModel.objects.filter(name__startswith="reader").exists()


@pytest.mark.django_db(transaction=True)
def test_none_succeeds(version: DatasetVersion, trainer: None) -> None:
    sweep = work(submit(version, space={"learning_rate": [0.6, 0.7]}))
    assert (sweep.status, sweep.error_code, sweep.best) == ("failed", "no_trial_succeeded", None)
    assert "2 failed" in sweep.error


@pytest.mark.django_db(transaction=True)
def test_what_was_cut_off_is_made_up_for(version: DatasetVersion, trainer: None) -> None:
    """A worker that dies between a trial's end and the next step leaves that to maintenance."""
    sweep = submit(version, space={"learning_rate": [1e-3, 2e-3]})
    sweep_task(str(sweep.pk))
    first = sweep.tried().get(trial=1)
    Job.objects.filter(pk=first.pk).update(status="failed")
    sweeps_advance(["ocr"])
    assert sweep.tried().get(trial=2).held
    sweeps_advance(["train"])
    assert not sweep.tried().get(trial=2).held


# -- the API and the console --------------------------------------------------------------------


@pytest.fixture
def client(owner: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(owner)
    return client


@pytest.mark.django_db
def test_by_the_api(client: APIClient, version: DatasetVersion) -> None:
    base_model()
    given = {
        "name": "reader",
        "method": "cpt",
        "base": "base",
        "dataset": "trams",
        "space": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}},
        "search": "optuna",
        "trials": 4,
        "options": {"epochs": 2},
    }
    answer = client.post(f"{PLACE}/", given, format="json")
    assert answer.status_code == 202, answer.content
    sweep_task(answer.json()["id"])
    sweep = client.get(answer.json()["url"]).json()
    assert (sweep["status"], sweep["trials"], len(sweep["tried"])) == ("running", 4, 4)
    assert sweep["tried"][0]["values"]["learning_rate"] > 0 and sweep["tried"][1]["values"] == {}
    assert sweep["options"]["epochs"] == 2 and sweep["best"] is None
    answer = client.post(f"{PLACE}/{sweep['id']}/cancel/")
    assert answer.status_code == 202 and answer.json()["status"] == "cancelled"
    bad = client.post(f"{PLACE}/", {**given, "space": {"lora_r": "8"}}, format="json")
    assert bad.status_code == 400 and "space: 'lora_r' takes a list" in bad.content.decode()


@pytest.mark.django_db(transaction=True)
def test_in_the_console(version: DatasetVersion, trainer: None) -> None:
    sweep = work(submit(version, space={"learning_rate": [1e-4, 1e-3], "lora_r": [4, 8]}))
    operator = signed_in("op", "operator")[0]
    assert "reader" in page(operator, "sweep_changelist")
    shown = page(operator, "sweep_change", sweep.pk)
    assert shown.count("<polyline") == 4 and "best" in shown and "0.001" in shown
    answer = operator.post(
        reverse("admin:finetune_sweep_new"),
        {
            "name": "other",
            "method": "cpt",
            "base": str(base_model().pk),
            "dataset_version": str(version.pk),
            "space": '{"learning_rate": [0.1',
            "search": "grid",
            "trials": "5",
            "parallel": "1",
            "metric": "eval_loss",
            "options": "{}",
        },
    )
    assert "Enter a valid JSON" in answer.content.decode()
    assert TrainingJob.objects.filter(parent=sweep).count() == 4
