"""Signs of life as a file: of workers in each round, of the scheduler with each message."""

from __future__ import annotations

from pathlib import Path

from celery import signals

from mlops import alive


def test_a_worker_signs_in_its_rounds(settings, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    settings.ALIVE_FILE = ""
    alive.sign(["ocr"])
    assert not file.exists()
    settings.ALIVE_FILE = str(file)
    assert "mlops.alive.sign" in settings.WORKER_STEPS
    alive.sign(["ocr"])
    assert file.exists()


def test_the_scheduler_signs_with_each_message(settings, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    settings.ALIVE_FILE = str(file)
    alive.sign_for_the_scheduler()
    assert file.exists()
    file.unlink()
    signals.after_task_publish.send(sender="mlops.jobs_maintain")
    assert file.exists()
