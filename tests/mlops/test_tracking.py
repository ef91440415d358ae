"""Runs reach MLflow, and a server that is down fails nothing."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from mlops import flush, tracking
from mlops.models import Job
from mlops.tracking import (
    MlflowTracker,
    NullTracker,
    Point,
    RunRecord,
    TrackingUnavailable,
)
from tests.environment import ROOT
from tests.services import free_port

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowTracker, str]:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return MlflowTracker(uri=uri, ui_url="http://ui/", artifacts=str(folder / "files")), uri


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    def install(tracker: object) -> None:
        monkeypatch.setattr(flush, "tracker", lambda: tracker)

    yield install
    tracking.tracker.cache_clear()


def ended(**fields: object) -> Job:
    return Job.objects.create(
        **{
            "kind": "test.job",
            "queue": "default",
            "status": "succeeded",
            "tracking": "pending",
            "tracking_after": timezone.now() - timedelta(seconds=1),
            "finished_at": timezone.now(),
            **fields,
        }
    )


def test_run_holds_what_the_record_says(store: tuple[MlflowTracker, str], tmp_path: Path) -> None:
    tracker, uri = store
    record = RunRecord(
        name="a run",
        experiment="ocr",
        succeeded=False,
        started=1000.5,
        finished=1002.0,
        params={"engine": "rapidocr", "dpi": 200},
        metrics={"pages": 2, "seconds": 1.5},
        tags={"job_id": "j"},
        artifacts={"result.json": "{}"},
    )
    ref = tracker.log(record)
    import mlflow

    client = mlflow.MlflowClient(uri)
    run = client.get_run(ref.run_id)
    assert ref.url == f"http://ui/#/experiments/{run.info.experiment_id}/runs/{ref.run_id}"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FAILED", 1000500, 1002000)
    assert run.data.params == {"engine": "rapidocr", "dpi": "200"}
    assert run.data.metrics == {"pages": 2, "seconds": 1.5}
    assert run.data.tags["job_id"] == "j" and run.data.tags["mlflow.runName"] == "a run"
    assert Path(client.download_artifacts(ref.run_id, "result.json")).read_text() == "{}"


def test_ended_jobs_are_logged_once(store: tuple[MlflowTracker, str], use, settings) -> None:
    use(store[0])
    settings.TRACKING_BUSY = timedelta(0)
    job = ended()
    running = ended(status="running", tracking="")
    assert flush.jobs_track() == 1
    assert flush.jobs_track() == 0
    job.refresh_from_db()
    running.refresh_from_db()
    assert job.tracking == "logged" and job.mlflow_run_id in job.mlflow_run_url
    assert running.mlflow_run_id == ""


def test_runs_wait_while_jobs_are_at_work(store: tuple[MlflowTracker, str], use) -> None:
    use(store[0])
    young, old = ended(), ended(finished_at=timezone.now() - timedelta(minutes=2))
    queued = ended(status="queued", tracking="")
    assert flush.jobs_track() == 1
    old.refresh_from_db()
    assert old.tracking == "logged"
    Job.objects.filter(pk=queued.pk).delete()
    assert flush.jobs_track() == 1
    young.refresh_from_db()
    assert young.tracking == "logged"


def test_server_that_is_down_is_noted_and_tried_later(use, tmp_path: Path) -> None:
    use(MlflowTracker(uri=f"http://127.0.0.1:{free_port()}", ui_url="", artifacts=str(tmp_path)))
    first, second = ended(), ended()
    assert flush.jobs_track() == 0
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.status == "succeeded" and first.tracking == "pending"
    assert first.tracking_note and first.tracking_after > timezone.now()
    # One refusal is enough to know: the second job did not wait for the same server.
    assert second.tracking_note == ""


def test_run_is_dropped_in_the_end(use, settings) -> None:
    class Down:
        def log(self, record: RunRecord) -> None:
            raise TrackingUnavailable("no answer")

    use(Down())
    job = ended(finished_at=timezone.now() - settings.TRACKING_GIVE_UP - timedelta(hours=1))
    flush.jobs_track()
    job.refresh_from_db()
    assert (job.tracking, job.tracking_note) == ("dropped", "no answer")


def test_one_job_that_cannot_be_logged_holds_up_no_other(use, store) -> None:
    class Picky:
        def log(self, record: RunRecord):
            if "broken" in record.name:
                raise ValueError("a fault of ours")
            return store[0].log(record)

    use(Picky())
    broken = ended(kind="broken", finished_at=timezone.now() - timedelta(minutes=1))
    fine = ended()
    assert flush.jobs_track() == 1
    broken.refresh_from_db()
    fine.refresh_from_db()
    assert broken.tracking == "pending" and "a fault of ours" in broken.tracking_note
    assert fine.tracking == "logged"


def test_tracking_turned_off(settings, use) -> None:
    settings.MLFLOW_TRACKING_URI = "none"
    tracking.tracker.cache_clear()
    assert isinstance(tracking.tracker(), NullTracker)
    use(NullTracker())
    job = ended()
    assert flush.jobs_track() == 0
    job.refresh_from_db()
    assert job.tracking == "" and job.mlflow_run_url == ""


def test_a_run_grows_while_its_job_runs(store: tuple[MlflowTracker, str]) -> None:
    tracker, uri = store
    import mlflow

    client = mlflow.MlflowClient(uri)
    parent = tracker.log(RunRecord(name="all", experiment="grow", started=1000.0, ended=False))
    first = RunRecord(
        name="one",
        experiment="grow",
        started=1000.0,
        ended=False,
        parent_id=parent.run_id,
        points=[Point("loss", 2.0, 1, 1000.5), Point("loss", 1.0, 2, 1001.0)],
    )
    run_id = tracker.log(first).run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    last = RunRecord(
        name="one",
        experiment="grow",
        run_id=run_id,
        succeeded=False,
        cancelled=True,
        finished=1003.0,
        points=[Point("loss", 0.5, 3, 1002.0)],
        params={"rank": 8},
    )
    assert tracker.log(last).run_id == run_id
    run = client.get_run(run_id)
    assert (run.info.status, run.data.params) == ("KILLED", {"rank": "8"})
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    curve = [
        (one.step, one.value, one.timestamp) for one in client.get_metric_history(run_id, "loss")
    ]
    assert curve == [(1, 2.0, 1000500), (2, 1.0, 1001000), (3, 0.5, 1002000)]


def test_a_model_is_registered_once(store: tuple[MlflowTracker, str], tmp_path: Path) -> None:
    tracker, uri = store
    import mlflow

    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "weights.bin").write_bytes(b"weights")
    run_id = tracker.log(RunRecord(name="training", experiment="grow")).run_id
    given = {"name": "reader", "run_id": run_id, "tags": {"version": "one"}}
    assert tracker.register(tmp_path / "made", **given) == "1"
    # As after a process that was cut off before it could write the number down.
    assert tracker.register(tmp_path / "made", **given) == "1"
    assert tracker.register(tmp_path / "made", **given | {"tags": {"version": "two"}}) == "2"
    tracker.alias("reader", "champion", "2")
    place = tracker.download("models:/reader@champion", tmp_path / "got")
    assert place.name == "reader-2" and (place / "weights.bin").read_bytes() == b"weights"
    found = mlflow.MlflowClient(uri).search_model_versions("name='reader'")
    assert len(found) == 2 and {version.run_id for version in found} == {run_id}


def test_many_open_a_new_store_at_once(tmp_path: Path) -> None:
    """As the workers of `manage.py run` do when they start."""
    script = (
        "from mlops.tracking import MlflowTracker, RunRecord\n"
        f"uri, folder = 'sqlite:///{tmp_path}/new/mlflow.db', '{tmp_path}/files'\n"
        "MlflowTracker(uri=uri, ui_url='', artifacts=folder).log(RunRecord(name='one'))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in started:
        _out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    store = MlflowTracker(uri=f"sqlite:///{tmp_path}/new/mlflow.db", ui_url="", artifacts="")
    assert store.log(RunRecord(name="another")).run_id


def test_a_store_whose_making_was_cut_off_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    place = {"uri": f"sqlite:///{path}", "ui_url": "", "artifacts": str(tmp_path / "files")}
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        # A copy that was not put in the place of its table yet.
        database.execute("CREATE TABLE _alembic_tmp_tags (key VARCHAR(250))")
        database.execute(
            "CREATE TABLE tags (key VARCHAR(250), value VARCHAR(250), run_uuid VARCHAR(32))"
        )
    tracking._unfinished_tables_remove(str(path))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert rows == [("tags",)]
        # And one whose table is gone already.
        database.execute("ALTER TABLE tags RENAME TO _alembic_tmp_tags")
    tracking._unfinished_tables_remove(str(path))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert rows == [("tags",)]
        database.execute("DROP TABLE tags")
        database.execute("CREATE TABLE _alembic_tmp_nothing (key INTEGER)")
    assert MlflowTracker(**place).log(RunRecord(name="one")).run_id
