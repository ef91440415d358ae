"""The only importer of mlflow, which is imported on first use. One run a job."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve; `at` in seconds since the epoch."""

    name: str
    value: float
    step: int
    at: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is logged of one job. Times in seconds since the epoch; artifacts by file name.

    `run_id` continues a run that was begun while the job ran, `ended` False leaves it open.
    `parent_id` is the run that it is shown under.
    """

    name: str
    experiment: str = "jobs"
    succeeded: bool = True
    cancelled: bool = False
    ended: bool = True
    run_id: str = ""
    parent_id: str = ""
    points: list[Point] = field(default_factory=list)
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


# In one request, as the REST API of MLflow limits it.
MOST_METRICS = 1000


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
        with _first_look(uri):
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
            run_id = record.run_id
            if not run_id:
                parent = {"mlflow.parentRunId": record.parent_id} if record.parent_id else {}
                run = self._client.create_run(
                    experiment, start_time=started, run_name=record.name, tags=parent
                )
                run_id = run.info.run_id
            metrics = [Metric(p.name, p.value, int(p.at * 1000), p.step) for p in record.points]
            metrics += [Metric(k, v, finished or 0, 0) for k, v in record.metrics.items()]
            # As many as a server takes in one request.
            for start in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])
            self._client.log_batch(
                run_id,
                params=[Param(k, str(v)) for k, v in record.params.items()],
                tags=[RunTag(k, v) for k, v in record.tags.items()],
            )
            for name, text in record.artifacts.items():
                self._client.log_text(run_id, text, name)
            if record.ended:
                ends = {(True, False): "FINISHED", (False, True): "KILLED"}
                status = ends.get((record.succeeded, record.cancelled), "FAILED")
                self._client.set_terminated(run_id, status=status, end_time=finished)
        except (MlflowException, SQLAlchemyError, OSError, KeyError) as error:
            self._experiments.clear()
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error
        return RunRef(run_id, f"{self._ui_url}/#/experiments/{experiment}/runs/{run_id}")

    def register(self, folder: Path, *, name: str, run_id: str, tags: dict[str, str]) -> str:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with contextlib.suppress(MlflowException):
                # It is there already, or the next call says what is wrong.
                self._client.create_registered_model(name)
            for version in self._client.search_model_versions(f"name='{name}'"):
                # Of an attempt that was cut off before anybody was told of it.
                if version.run_id == run_id and tags.items() <= version.tags.items():
                    return str(version.version)
            self._client.log_artifacts(run_id, str(folder), "model")
            source = f"{self._client.get_run(run_id).info.artifact_uri}/model"
            made = self._client.create_model_version(name, source, run_id=run_id, tags=tags)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error
        return str(made.version)

    def alias(self, name: str, alias: str, version: str) -> None:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._client.set_registered_model_alias(name, alias, version)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error

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
                    # Not by "models:/": that asks the registry of the whole process.
                    whole = download_artifacts(
                        artifact_uri=self._client.get_model_version_download_uri(name, version),
                        dst_path=unfinished,
                        tracking_uri=self._uri,
                    )
                    with contextlib.suppress(FileExistsError, NotADirectoryError):
                        Path(whole).rename(place)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingUnavailable(f"{type(error).__name__}: {error}") from error
        return place


@contextlib.contextmanager
def _first_look(uri: str) -> Iterator[None]:
    """One process at a time: the first that opens a local store makes its tables.

    MLflow itself lets several begin, whose steps then fail on each other's for good.
    """
    path = uri.removeprefix("sqlite:///")
    if path == uri:
        yield
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _unfinished_tables_remove(path)
        yield


def _unfinished_tables_remove(path: str) -> None:
    """What a process left that was killed while it made the tables: alembic changes copies."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = {name for (name,) in rows}
        for name in names:
            own = name.removeprefix("_alembic_tmp_")
            if own in names and own != name:
                database.execute(f'DROP TABLE "{name}"')
            elif own != name:
                # Killed between the removal of the old table and the new one's naming.
                database.execute(f'ALTER TABLE "{name}" RENAME TO "{own}"')


def download(uri: str, folder: Path) -> Path:
    """The files of a registered model (`models:/name@alias`, `models:/name/3`), below `folder`.

    Each version is fetched once. Raises TrackingUnavailable.
    """
    return _registry().download(uri, folder)


def register(folder: Path, *, name: str, run_id: str, tags: dict[str, str]) -> str:
    """Registers the files of a model as the next version of `name`; its number.

    `tags` tell it from others of the same run, so that doing it again does nothing. Raises
    TrackingUnavailable.
    """
    return _registry().register(folder, name=name, run_id=run_id, tags=tags)


def alias(name: str, alias: str, version: str) -> None:
    """Points `models:/name@alias` at a version. Raises TrackingUnavailable."""
    _registry().alias(name, alias, version)


def save_language_model(
    folder: Path, *, model: Any, tokenizer: Any, base: str, requirements: list[str]
) -> None:
    """Writes a transformers model in MLflow's form; an adapter (peft) without its base's weights.

    `base`: the folder of the base's weights, empty where it is a hub's. No server is asked.
    """
    import mlflow.transformers

    mlflow.transformers.save_model(
        {"model": model, "tokenizer": tokenizer},
        path=str(folder),
        task="text-generation",
        base_model_path=base or None,
        pip_requirements=requirements,
    )


def _registry() -> MlflowTracker:
    found = tracker()
    if not isinstance(found, MlflowTracker):
        raise TrackingUnavailable("tracking is turned off (MLFLOW_TRACKING_URI)")
    return found


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
