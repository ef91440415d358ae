"""`manage.py doctor`: what it finds, what it advises, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models.functions import Now
from redis import Redis

from mlops import doctor
from mlops.doctor import Finding, Status
from mlops.models import QueuePulse
from tests.environment import ROOT
from tests.services import RedisServer


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {one.check: one for one in found}


def pulse(*queues: str) -> None:
    for name in queues:
        QueuePulse.objects.update_or_create(queue=name, defaults={"seen_at": Now()})


@pytest.mark.django_db
def test_a_sound_installation(settings, capsys) -> None:
    pulse(*settings.QUEUES)
    call_command("doctor")
    shown = capsys.readouterr().out
    assert "failed" not in shown and "all applied" in shown
    call_command("doctor", json=True)
    found = {one["check"]: one["status"] for one in json.loads(capsys.readouterr().out)}
    assert found["worker ocr"] == found["database"] == found["broker"] == "ok"


@pytest.mark.django_db
def test_a_queue_without_a_worker(settings, capsys) -> None:
    """It fails where the platform can't be ready without it, else it is worth a word."""
    settings.READY_QUEUES = ["ocr"]
    pulse("default")
    found = by_name(list(doctor.workers()))
    assert found["worker ocr"].status is Status.FAILED
    assert "docker compose up -d worker-ocr" in found["worker ocr"].remedy
    assert found["worker train"].status is Status.WARNING
    assert found["worker default"].status is Status.OK
    with pytest.raises(SystemExit) as ended:
        call_command("doctor")
    assert ended.value.code == 1
    assert "-> Start one" in capsys.readouterr().out


def doctor_of(folder: Path, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The command in a process of its own, with an environment of its own."""
    done = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(folder), "ENV_FILE": os.devnull, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)}


def test_nothing_answers(tmp_path: Path) -> None:
    """It says so of each part, rather than ending at the first."""
    status, found = doctor_of(
        tmp_path,
        DATABASE_URL="postgresql://mlops:x@127.0.0.1:9/mlops",
        REDIS_URL="redis://127.0.0.1:9/0",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )
    assert status == 1
    assert (found["database"]["status"], found["broker"]["status"]) == ("failed", "failed")
    assert "DATABASE_URL" in found["database"]["remedy"]
    assert "REDIS_URL" in found["broker"]["remedy"]
    assert found["migrations"]["status"] == found["clock"]["status"] == "skipped"
    assert found["mlflow"]["status"] == "warning" and "mlflow" in found["mlflow"]["remedy"]


def test_a_database_that_was_never_migrated(tmp_path: Path) -> None:
    status, found = doctor_of(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite3")
    assert status == 1
    assert found["migrations"]["status"] == "failed"
    assert "manage.py migrate" in found["migrations"]["remedy"]


def test_a_broker_that_throws_jobs_away(tmp_path: Path) -> None:
    with RedisServer() as redis:
        env = {"DATABASE_URL": f"sqlite:///{tmp_path}/new.sqlite3", "REDIS_URL": redis.url}
        _status, found = doctor_of(tmp_path, **env)
        assert found["broker"]["status"] == "ok"
        Redis.from_url(redis.url).config_set("maxmemory-policy", "allkeys-lru")
        _status, found = doctor_of(tmp_path, **env)
    assert found["broker"]["status"] == "failed"
    assert "noeviction" in found["broker"]["remedy"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch):
    """A machine with this driver (None: no nvidia-smi) and a torch built for this CUDA."""

    def make(driver: str | None, cuda: str) -> Finding:
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        if driver is not None:
            program = programs / "nvidia-smi"
            program.write_text(f'#!/bin/sh\necho "NVIDIA H200, {driver}"\n')
            program.chmod(0o755)
        site = tmp_path / "site"
        (site / "torch").mkdir(parents=True, exist_ok=True)
        (site / "torch" / "version.py").write_text(f"cuda: Optional[str] = {cuda}\nhip = None\n")
        (site / "torch-9.9.dist-info").mkdir(exist_ok=True)
        (site / "torch-9.9.dist-info" / "METADATA").write_text("Name: torch\nVersion: 9.9\n")
        monkeypatch.setenv("PATH", str(programs))
        monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        return doctor.gpu()

    return make


@pytest.mark.parametrize(
    ("driver", "cuda", "status", "said"),
    [
        (None, "None", Status.OK, "built for the CPU"),
        (None, "'12.6'", Status.FAILED, "no GPU is seen"),
        ("580.65.06", "None", Status.WARNING, "torch is built for the CPU"),
        ("550.54.15", "'12.6'", Status.OK, "NVIDIA H200, driver 550.54.15"),
        ("550.54.15", "'13.0'", Status.FAILED, "too old"),
    ],
)
def test_gpu_driver_and_torch(
    machine, driver: str | None, cuda: str, status: Status, said: str
) -> None:
    found = machine(driver, cuda)
    assert (found.status, said in found.found) == (status, True), found
    assert bool(found.remedy) == (status is not Status.OK)


def test_folders_and_their_room(tmp_path: Path, monkeypatch, settings) -> None:
    settings.TRAINING_FOLDER = tmp_path / "made" / "later"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 1)
    assert {one.status for one in doctor.folders()} == {Status.OK}
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 1 << 60)
    assert all("GB left" in one.found for one in doctor.folders())


def test_mlflow_that_answers(settings) -> None:
    settings.MLFLOW_TRACKING_URI = "none"
    assert doctor.mlflow().status is Status.SKIPPED
