"""The commands that train, evaluate and merge, as they are called by hand."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from finetune.dry_report_text import dry_report_lines
from finetune.models import Dataset, DatasetVersion, Evaluation, ModelVersion, TrainingJob
from finetune.training import child, run
from finetune.training_plan import TrainingPlan, base_of, version_named, version_of
from llm.models import LanguageModel
from llm.tiny import lora_adapter
from mlops.exceptions import ApplicationError
from mlops.stored_folders import folder_put
from tests.environment import ROOT
from tests.finetune.conftest import Importer
from tests.finetune.made import write_lines
from tests.finetune.test_evaluation_pages import lines, ocr_engines
from tests.finetune.training_steps import base_model, order
from tests.services import wait_for

__all__ = ["lines", "ocr_engines"]

PLAN = """\
name: reader
method: cpt
base: base
dataset: rows.jsonl
import: {name: trams, validation: 0.2, test: 0.1}
options: {log_steps: 1}
"""


@pytest.fixture
def trainer(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "TRAINER", "tests.fake_trainer")
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(child, "_launch", lambda *_: [])
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.MLFLOW_TRACKING_URI = "none"


@pytest.fixture
def config(tmp_path: Path, storage: Path, db: None) -> Iterator[Path]:
    """A config beside its rows."""
    base_model()
    write_lines(tmp_path / "rows.jsonl", order())
    path = tmp_path / "train.yaml"
    path.write_text(PLAN)
    yield path


def train(config: Path, *arguments: str) -> str:
    out = io.StringIO()
    call_command("finetune_train", str(config), *arguments, stdout=out, stderr=out)
    return out.getvalue()


# -- finetune_train -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_trains_what_a_file_says(config: Path, trainer: None) -> None:
    said = train(config, "--set", "seed=7", "--set", "schedule=linear")
    job = TrainingJob.objects.get()
    assert (job.status, job.held, job.owner) == ("succeeded", False, None)
    assert (job.options["seed"], job.options["schedule"]) == (7, "linear")
    assert "reader v1: fit, called 'reader@1'" in said.lower()
    # The rows are the same: they are not imported again.
    train(config)
    assert DatasetVersion.objects.count() == 1
    write_lines(config.parent / "rows.jsonl", [*order(), {"text": "One more."}])
    train(config)
    assert [v.number for v in Dataset.objects.get().versions.all()] == [2, 1]
    # Or named, and left to a worker.
    config.write_text(PLAN.replace("rows.jsonl", "trams@1"))
    said = train(config, "--enqueue")
    job = TrainingJob.objects.first()
    assert job.status == "queued" and job.dataset_version.number == 1 and str(job.pk) in said


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_told(config: Path, trainer: None) -> None:
    write_lines(config.parent / "rows.jsonl", order(fail="out_of_memory"))
    with pytest.raises(CommandError, match="Lower 'batch_size'") as caught:
        train(config)
    assert caught.value.returncode == 1


# The command as a process of its own, with the trainer of `trainer`: what is interrupted here is
# not the process of the tests.
COMMAND = """
import os, sys
import django
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
django.setup()
from finetune.training import child, run
run.TRAINER, run.LOOK_SECONDS, child._launch = "tests.fake_trainer", 0.05, lambda *_: []
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


def this_database() -> str:
    """The tests' database, as a process of its own is told of it."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


@pytest.mark.timeout(500)
@pytest.mark.django_db(transaction=True)
def test_an_interrupt_saves_a_checkpoint_and_stops(
    config: Path, trainer: None, settings: Any
) -> None:
    write_lines(config.parent / "rows.jsonl", order(steps=10_000, delay=0.02))
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "finetune_train", str(config)],
        cwd=ROOT,
        env=os.environ
        | {
            "DATABASE_URL": this_database(),
            "MEDIA_ROOT": str(config.parent / "media"),
            "TRAINING_FOLDER": str(settings.TRAINING_FOLDER),
            "MLFLOW_TRACKING_URI": "none",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    trained = TrainingJob.objects.filter(progress_done__gt=5)
    try:
        wait_for(lambda: trained.exists() or command.poll() is not None, 200)
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=200)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 130, said
    job = TrainingJob.objects.get()
    assert job.status == "cancelled" and job.checkpoints.filter(removed=False).exists()


def test_a_dry_run_shows_what_is_learned(config: Path, trainer: None) -> None:
    report = {
        "examples": [
            {
                "runs": [{"text": "user: 2 + 2?\n", "loss": False}, {"text": "4", "loss": True}],
                "tokens": 9,
                "learned": 2,
                "cut_off": False,
            }
        ],
        "rows": 1200,
        "validation_rows": 30,
        "truncated": 0.125,
        "dropped": 3,
        "lengths": {"p50": 10, "p90": 12, "p99": 14, "most": 15},
        "tokens": 12_000,
        "tokens_in_all": 36_000,
        "steps": 225,
        "epoch_steps": 75,
        "time": {"seconds": 65.0, "seconds_a_step": 0.288, "measured_steps": 3},
        "memory": {
            "kind": "RAM",
            "available": 8_000_000_000,
            "total": 700_000_000,
            "measured": 650_000_000,
            "weights": 3_700_000,
        },
        "disk": {"needed": 1e8, "free": 1e9, "checkpoint": 2e7},
        "settings": {"batch_size": 16},
        "warnings": ["12.5 % are cut off: raise 'max_length'."],
    }
    said = "\n".join(dry_report_lines(report))
    assert "  | user: 2 + 2?\n  | [[4]]" in said and "9 tokens, 2 of them learned" in said
    assert "1,200 to train on, 30 to validate by; 12.5% cut off, 3 left out" in said
    assert "about 1 min 5 s, 0.288 s a step, measured over 3" in said
    assert "Warning: 12.5 % are cut off" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [", "is no YAML"),
        ("- a list", "holds no settings"),
        ("name: x\nmethod: sft", "'dataset' is missing"),
        (PLAN + "epochs: 3", "there is no setting 'epochs'; there are base, dataset, import"),
        (PLAN.replace("cpt", "ppo"), "method: one of"),
        (PLAN.replace("rows.jsonl", "nothing.jsonl"), "no dataset 'nothing.jsonl' and no file"),
        (PLAN.replace("base: base", "base: nobody"), "there is no language model 'nobody'"),
        (PLAN.replace("log_steps", "log_step"), "There is no option 'log_step'"),
        (PLAN.replace("validation:", "validate:"), "import: "),
    ],
)
def test_configs_that_are_none(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(CommandError, match=said) as caught:
        train(config)
    assert caught.value.returncode == 2
    assert not TrainingJob.objects.exists()


def test_a_folder_becomes_a_model(config: Path) -> None:
    (config.parent / "tiny-one").mkdir()
    config.write_text(PLAN.replace("base: base", "base: tiny-one"))
    plan = TrainingPlan.read(config)
    model = base_of(plan)
    assert model.name == "tiny-one" and model.source == str(config.parent / "tiny-one")
    assert base_of(plan) == model


def test_versions_by_name(config: Path, imported: Importer) -> None:
    """One's own first; without an owner everybody's."""
    version = imported([{"text": "One."}, {"text": "Two."}], "rows")
    plan = TrainingPlan.read(config)
    assert version_named("rows", owner=None) == version_named("rows@1", owner=version.dataset.owner)
    assert version_named("rows@2", owner=None) is None
    with pytest.raises(ApplicationError, match="There is no dataset 'rows@2'"):
        version_of(plan, "rows@2", owner=None)


# -- finetune_evaluate --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_evaluates_side_by_side(lines: DatasetVersion, ocr_engines: None, tmp_path: Path) -> None:
    out, path = io.StringIO(), tmp_path / "result.json"
    call_command(
        "finetune_evaluate",
        *("ocr:fake", "ocr:blind", "--dataset", "lines@1", "--json", str(path)),
        stdout=out,
    )
    said = out.getvalue()
    assert "lines v1, test: 25 of 25 rows" in said
    assert "ocr:blind against ocr:fake" in said and "worse" in said
    assert "ocr:blind: 1 rows failed and count as wrong." in said
    written = json.loads(path.read_text())
    assert written["evaluation"] == str(Evaluation.objects.get().pk)
    assert written["sides"][0]["figures"]["cer"]["value"] == 0
    with pytest.raises(CommandError, match="There is no dataset 'none'") as caught:
        call_command("finetune_evaluate", "ocr:fake", "--dataset", "none")
    assert caught.value.returncode == 2
    with pytest.raises(CommandError, match="There is no engine 'x'"):
        call_command("finetune_evaluate", "ocr:x", "--dataset", "lines")


@pytest.mark.django_db(transaction=True)
def test_a_model_that_can_not_be_evaluated(
    imported: Importer, settings: Any, tmp_path: Path
) -> None:
    settings.TRAINING_FOLDER = tmp_path / "training"
    imported([{"text": f"Stop {n}."} for n in range(40)], "stops", test=0.5)
    LanguageModel.objects.create(name="gone", source=str(tmp_path / "gone"))
    with pytest.raises(CommandError, match=r"gone: There is no model folder") as caught:
        call_command("finetune_evaluate", "gone", "--dataset", "stops")
    assert caught.value.returncode == 1


# -- finetune_merge -----------------------------------------------------------------------------


@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_an_adapter_becomes_a_whole_model(
    random_model: Path, storage: Path, settings: Any, tmp_path: Path
) -> None:
    settings.TRAINING_FOLDER = tmp_path / "training"
    settings.MODELS_FOLDER = tmp_path / "data"
    settings.MLFLOW_TRACKING_URI = "none"
    base = LanguageModel.objects.create(name="base", source=str(random_model), dtype="float32")
    version = ModelVersion.objects.create(name="reader", number=1, form="adapter", base=base)
    adapter = lora_adapter(tmp_path / "adapter", random_model, seed=3)
    folder_put(adapter, version.folder)
    out, target = io.StringIO(), tmp_path / "merged"
    call_command("finetune_merge", "reader@1", "--out", str(target), stdout=out, stderr=out)
    made = ModelVersion.objects.get(number=2)
    assert (made.form, made.merged_from, made.fitness) == ("model", version, "fit")
    assert made.parity["served"]["max_difference"] < 1e-3
    assert made.language_model.name == "reader@2" and made.language_model.base is None
    assert "reader v2 of reader v1: fit" in out.getvalue().lower()
    assert (target / "model.safetensors").is_file() and (target / "tokenizer.json").is_file()
    with pytest.raises(CommandError, match="Only an adapter can be merged"):
        call_command("finetune_merge", "reader@2")
    with pytest.raises(CommandError, match="There is no model or version 'reader@9'"):
        call_command("finetune_merge", "reader@9")
    with pytest.raises(CommandError, match="isn't empty"):
        call_command("finetune_merge", "reader@1", "--out", str(target))
