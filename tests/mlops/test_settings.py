"""Settings from the environment, and their documentation."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

from tests.environment import ROOT

SHOW = """
import json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
from django.conf import settings
print(json.dumps([settings.DATABASES["default"], settings.CELERY_BROKER_URL,
    settings.CELERY_BROKER_TRANSPORT_OPTIONS, settings.STORAGES["default"],
    settings.SECRET_KEY, settings.MLFLOW_TRACKING_URI], default=str))
"""


def settings_of(folder: Path, **env: str) -> list:
    inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL",)}
    out = subprocess.check_output(
        [sys.executable, "-c", SHOW],
        cwd=ROOT,
        env={**inherited, "DATA_DIR": str(folder), "ENV_FILE": os.devnull, **env},
        text=True,
    )
    return json.loads(out)


def settings_value(folder: Path, name: str, **env: str) -> str:
    show = "import sys, mlops.settings as found; sys.stdout.write(str(getattr(found, sys.argv[1])))"
    return subprocess.check_output(
        [sys.executable, "-c", show, name],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(folder), "ENV_FILE": os.devnull, **env},
        text=True,
    )


def test_embedded_defaults_keep_to_the_data_folder(tmp_path: Path) -> None:
    database, broker, options, storage, key, mlflow = settings_of(tmp_path)
    assert database["ENGINE"] == "django.db.backends.sqlite3"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert broker == "filesystem://"
    for place in (database["NAME"], options["data_folder_in"], storage["OPTIONS"]["location"]):
        assert place.startswith(str(tmp_path))
    assert mlflow == f"sqlite:///{tmp_path}/mlflow.db"
    # The key is made once, and only its owner can read it.
    assert len(key) >= 50 and settings_of(tmp_path)[4] == key
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_production_by_environment_alone(tmp_path: Path) -> None:
    database, broker, options, storage, key, mlflow = settings_of(
        tmp_path,
        ENVIRONMENT="production",
        SECRET_KEY="k" * 60,
        DATABASE_URL="postgresql://u:p@db:5432/ml",
        REDIS_URL="redis://cache:6379/0",
        S3_BUCKET="documents",
        S3_ENDPOINT_URL="http://store:9000",
        MLFLOW_TRACKING_URI="http://mlflow:5000",
    )
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert database["OPTIONS"]["pool"]["max_size"] == 10
    assert broker == "redis://cache:6379/0" and options["visibility_timeout"] == 3600
    assert options["queue_order_strategy"] == "priority"
    assert storage["BACKEND"] == "storages.backends.s3.S3Storage"
    assert storage["OPTIONS"]["endpoint_url"] == "http://store:9000"
    assert (key, mlflow) == ("k" * 60, "http://mlflow:5000")
    assert not (tmp_path / "secret_key").exists()


def test_env_file_is_read_and_the_environment_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("REDIS_URL=redis://from-file/0\nMLFLOW_TRACKING_URI=none\n")
    shown = settings_of(tmp_path, ENV_FILE=str(file), REDIS_URL="redis://from-env/0")
    assert (shown[1], shown[5]) == ("redis://from-env/0", "none")


def test_every_variable_is_documented() -> None:
    read = (ROOT / "mlops" / "settings.py").read_text() + (ROOT / "gunicorn.conf.py").read_text()
    names = set(re.findall(r'(?:env\.\w+|environ\.get)\(\s*"(\w+)"', read)) - {"ENV_FILE"}
    documented = set(
        re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M)
    )
    assert len(names) > 30
    assert names <= documented
    stack = [ROOT / "compose.yml", *(ROOT / "docker").glob("compose.*.yml")]
    compose = {one for file in stack for one in re.findall(r"\$\{([A-Z]\w+)", file.read_text())}
    assert len(compose) > 30
    assert compose <= documented
    assert documented <= names | compose | {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
