"""The only importer of mlflow, which is imported on first use. One run a job."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is logged of one ended job. Times in seconds since the epoch; artifacts by file name."""

    name: str
    experiment: str = "jobs"
    succeeded: bool = True
    started: float | None = None
    finished: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRef:
    run_id: str
    url: str


class TrackingUnavailable(Exception):
    """The tracking server can't be reached or refuses; the run may be logged later."""


class Tracker(Protocol):
    def log(self, record: RunRecord) -> RunRef | None:
        """Logs one run whole. Raises TrackingUnavailable."""
        ...


class NullTracker:
    """Tracking turned off."""

    def log(self, record: RunRecord) -> None:
        return None


class MlflowTracker:
    """Logs to an MLflow server, or to a local store when `uri` is a database."""

    def __init__(self, *, uri: str, ui_url: str, artifacts: str) -> None:
        # MLflow's own patience (7 retries of 120 s) is for training loops, not for a queue of
        # ended jobs that can be logged later.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
        from mlflow import MlflowClient

        self._uri = uri
        self._client = MlflowClient(tracking_uri=uri)
        self._ui_url = ui_url.rstrip("/")
        self._local_artifacts = None if uri.startswith("http") else artifacts
        self._experiments: dict[str, str] = {}
        self._lock = threading.Lock()

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        with self._lock:
            if name not in self._experiments:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    place = f"{self._local_artifacts}/{name}" if self._local_artifacts else None
                    try:
                        self._experiments[name] = self._client.create_experiment(name, place)
                    except MlflowException:
                        # Another process may have made it in the meantime; if not, the next
                        # line fails and says why.
                        found = self._client.get_experiment_by_name(name)
                if found is not None:
                    self._experiments[name] = found.experiment_id
            return self._experiments[name]

    def log(self, record: RunRecord) -> RunRef:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            experiment = self._experiment(record.experiment)
            started = int(record.started * 1000) if record.started else None
            finished = int(record.finished * 1000) if record.finished else None
            run = self._client.create_run(experiment, start_time=started, run_name=record.name)
            run_id = run.info.run_id
            self._client.log_batch(
                run_id,
                metrics=[Metric(k, v, finished or 0, 0) for k, v in record.metrics.items()],
                params=[Param(k, str(v)) for k, v in record.params.items()],
                tags=[RunTag(k, v) for k, v in record.tags.items()],
            )
            for name, text in record.artifacts.items():
                self._client.log_text(run_id, text, name)
            status = "FINISHED" if record.succeeded else "FAILED"
            self._client.set_terminated(run_id, status=status, end_time=finished)
        except (MlflowException, SQLAlchemyError, OSError, KeyError) as error:
            self._experiments.clear()
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error
        return RunRef(run_id, f"{self._ui_url}/#/experiments/{experiment}/runs/{run_id}")

    def download(self, uri: str, folder: Path) -> Path:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        name, _, alias = uri.removeprefix("models:/").partition("@")
        try:
            if alias:
                version = self._client.get_model_version_by_alias(name, alias).version
            else:
                name, _, version = name.rpartition("/")
            place = folder / f"{name}-{version}"
            if not place.exists():
                folder.mkdir(parents=True, exist_ok=True)
                # Whole or not at all, even if this process is killed or another one is faster.
                with tempfile.TemporaryDirectory(dir=folder) as unfinished:
                    whole = download_artifacts(
                        artifact_uri=f"models:/{name}/{version}",
                        dst_path=unfinished,
                        tracking_uri=self._uri,
                        registry_uri=self._uri,
                    )
                    with contextlib.suppress(FileExistsError, NotADirectoryError):
                        Path(whole).rename(place)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error
        return place


def download(uri: str, folder: Path) -> Path:
    """The files of a registered model (`models:/name@alias`, `models:/name/3`), below `folder`.

    Each version is fetched once. Raises TrackingUnavailable.
    """
    found = tracker()
    if not isinstance(found, MlflowTracker):
        raise TrackingUnavailable("tracking is turned off (MLFLOW_TRACKING_URI)")
    return found.download(uri, folder)


@cache
def tracker() -> Tracker:
    """This process's tracker, by MLFLOW_TRACKING_URI. Raises TrackingUnavailable."""
    from django.conf import settings

    if settings.MLFLOW_TRACKING_URI.lower() in ("", "none"):
        return NullTracker()
    try:
        return MlflowTracker(
            uri=settings.MLFLOW_TRACKING_URI,
            ui_url=settings.MLFLOW_UI_URL,
            artifacts=settings.MLFLOW_ARTIFACTS,
        )
    except ImportError as error:
        raise TrackingUnavailable(
            f"{error}. Install it: pip install -r requirements/ocr.txt"
        ) from error
