"""What `manage.py check` refuses, and that it says how to mend it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.core.checks import run_checks

from tests.environment import ROOT


def ids() -> set[str]:
    return {message.id for message in run_checks() if message.id.startswith("mlops.")}


@pytest.mark.django_db
def test_sound_settings_pass() -> None:
    assert ids() == set()


def test_production_on_embedded_parts_is_refused(settings, tmp_path) -> None:
    settings.PRODUCTION = True
    settings.SECRET_KEY_FROM_ENV = False
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["*"]
    settings.CELERY_BROKER_URL = "filesystem://"
    settings.SESSION_COOKIE_SECURE = False
    found = ids()
    assert {"mlops.E001", "mlops.E002", "mlops.E003", "mlops.E005", "mlops.E006"} <= found
    assert "mlops.W001" in found
    for message in run_checks():
        if message.id.startswith("mlops."):
            assert message.hint


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ENGINES": {"ocr": {"rapidocr": {"BACKEND": "ocr.engines.no_such.Engine"}}}}, "E010"),
        ({"OCR_DEFAULT_ENGINE": "nothing"}, "E011"),
        ({"ENGINES_PRELOAD": ["ocr:nothing"]}, "E012"),
        ({"READY_QUEUES": ["nowhere"]}, "E013"),
    ],
)
def test_names_that_lead_nowhere(settings, change: dict[str, object], expected: str) -> None:
    for name, value in change.items():
        setattr(settings, name, value)
    assert f"mlops.{expected}" in ids()


def test_storage_that_takes_nothing(settings, tmp_path) -> None:
    (tmp_path / "file").touch()
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "file")},
        }
    }
    assert "mlops.E014" in ids()


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "gunicorn", "-c", "gunicorn.conf.py", "-b", "127.0.0.1:0"],
        ["-m", "celery", "-A", "mlops", "worker", "-Q", "ocr", "-P", "solo"],
    ],
)
def test_web_and_worker_refuse_to_start(command: list[str], tmp_path) -> None:
    env = {**os.environ, "ENVIRONMENT": "production", "DATA_DIR": str(tmp_path)}
    env |= {"SECRET_KEY": "short", "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "mlops.E001" in done.stderr and "mlops.E004" in done.stderr
