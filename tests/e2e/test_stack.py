"""One document through every layer, by HTTP, on both sets of servers."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from ocr.samples import multi_page_pdf, render_samples
from ocr.scoring import cer
from tests.services import free_port, wait_for
from tests.stack import Stack

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def receipt(tmp_path_factory: pytest.TempPathFactory):
    samples = render_samples(tmp_path_factory.mktemp("samples"))
    return next(sample for sample in samples if sample.name == "receipt")


def test_document_on_postgres_redis_and_s3(production: Stack, receipt, s3) -> None:
    job = production.ended(production.submit(receipt.path))
    assert job["status"] == "succeeded", job
    assert job["progress"] == {"done": 1, "total": 1}
    result = production.result(job)
    assert cer(receipt.truth[0], result["text"]) < 0.02
    page = result["pages"][0]
    assert page["engine"] == "rapidocr" and page["model_version"] and page["device"]
    text = production.client.get(job["result"], params={"format": "txt"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.strip() == result["text"].strip()

    # The file is in the bucket, on no disk, and goes with its document.
    (name,) = [key for key in s3.names() if job["document"] in key]
    assert not list(production.data_dir.rglob("original.*"))
    document = f"/api/v1/documents/{job['document']}"
    assert production.client.get(f"{document}/file").content == receipt.path.read_bytes()
    assert production.client.delete(document).status_code == 204
    assert name not in s3.names()


def test_request_and_job_are_named_in_every_log_line(production: Stack, receipt) -> None:
    """The id that a caller sends is found in the worker's log; an endless one breaks nothing."""
    for sent in ("caller-7", "x" * 500):
        answer = production.client.post(
            "/api/v1/ocr/jobs/",
            files={"file": receipt.path.open("rb")},
            data={"language": "en"},
            headers={"X-Request-ID": sent},
        )
        job = production.ended(answer.json())
        assert job["status"] == "succeeded"
        lines = [json.loads(x) for x in production.log("worker").splitlines() if x[:1] == "{"]
        ended = next(x for x in lines if x["event"] == "job_ended" and x["job_id"] == job["id"])
        assert ended["request_id"] == sent[:100]
        assert ended["level"] == "info" and ended["status"] == "succeeded" and ended["timestamp"]


def test_sync_endpoint(production: Stack, receipt) -> None:
    answer = production.client.post(
        "/api/ocr/extract/sync",
        files={"image_file": receipt.path.open("rb")},
        data={"language": "en", "confidence_threshold": "0.99"},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True and body["data"]["status"] == "succeeded"
    boxes = body["data"]["text_boxes"]
    assert cer(receipt.truth[0], body["data"]["full_text"]) < 0.02
    # Lines under the threshold are flagged, not dropped.
    flagged = [box for box in boxes if box["low_confidence"]]
    assert flagged and len(flagged) < len(boxes)
    assert all(box["confidence"] < 0.99 for box in flagged)


@pytest.mark.parametrize("chunked", [False, True])
def test_upload_over_the_limit_is_refused_before_it_is_stored(
    production: Stack, chunked: bool
) -> None:
    body = b"x" * (3 * 1024 * 1024)
    answer = production.client.post(
        "/api/v1/documents/",
        content=(body[n : n + 65536] for n in range(0, len(body), 65536)) if chunked else body,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "file_too_large"
    assert "MAX_UPLOAD_MB" in answer.json()["error"]["message"]


def test_sync_endpoint_does_not_hold_on(production: Stack, tmp_path: Path) -> None:
    multi_page_pdf(tmp_path / "long.pdf", 20)
    answer = production.client.post(
        "/api/ocr/extract/sync",
        files={"image_file": (tmp_path / "long.pdf").open("rb")},
        data={"language": "en", "wait": "0.1"},
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == answer.json()["data"]["url"]
    job = production.ended({"id": answer.json()["data"]["job"]})
    assert job["status"] == "succeeded"


def test_two_workers_share_the_jobs(production: Stack, tmp_path: Path) -> None:
    truth = multi_page_pdf(tmp_path / "doc.pdf", 2)
    other = production.worker("second")
    # One that is told to stop while it starts just ends.
    assert wait_for(lambda: "Connected to" in production.log("second"), 100)
    jobs = [production.submit(tmp_path / "doc.pdf") for _ in range(10)]
    for job in jobs:
        done = production.ended(job)
        assert (done["status"], done["attempts"]) == ("succeeded", 1)
        result = production.result(job)
        assert [page["page"] for page in result["pages"]] == [1, 2]
        assert cer("\n".join(truth), result["text"]) < 0.05
    other.send_signal(signal.SIGTERM)
    assert other.wait(60) == 0


def test_worker_told_to_stop_hands_its_job_on(production: Stack, tmp_path: Path) -> None:
    """A warm shutdown ends after the page under way, and costs the job no attempt."""
    multi_page_pdf(tmp_path / "long.pdf", 60)
    leaving = production.worker("leaving")
    assert wait_for(lambda: "Connected to" in production.log("leaving"), 100)
    jobs = [production.submit(tmp_path / "long.pdf") for _ in range(2)]
    for job in jobs:
        production.until(job, lambda now: now["progress"]["done"] >= 1)
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait(60) == 0
    ended = [production.ended(job) for job in jobs]
    assert [job["status"] for job in ended] == ["succeeded", "succeeded"]
    assert sorted(job["attempts"] for job in ended) == [1, 2]
    for job in jobs:
        assert [page["page"] for page in production.result(job)["pages"]] == list(range(1, 61))


def test_embedded_defaults(receipt) -> None:
    """SQLite, the file broker and a local MLflow, as `make run` starts them."""
    with Stack(MLFLOW_TRACKING_URI="") as stack:
        del stack.env["MLFLOW_TRACKING_URI"]
        stack.port = free_port()
        stack.client.base_url = f"http://127.0.0.1:{stack.port}"
        running = stack.start("run", "manage.py", "run", "--port", str(stack.port))
        stack.ready()
        job = stack.ended(stack.submit(receipt.path))
        assert job["status"] == "succeeded", job
        assert cer(receipt.truth[0], stack.result(job)["text"]) < 0.02
        with sqlite3.connect(stack.data_dir / "db.sqlite3") as database:
            rows = database.execute(
                "SELECT status, result FROM django_celery_results_taskresult WHERE task_id = ?",
                [job["id"]],
            ).fetchall()
        assert [(status, json.loads(kept)) for status, kept in rows] == [
            ("SUCCESS", {"job": job["id"], "status": "succeeded"})
        ]
        logged = stack.until(job, lambda now: bool(now["mlflow_run"]))

        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{stack.data_dir}/mlflow.db")
        run = client.get_run(logged["mlflow_run"].rsplit("/", 1)[-1])
        assert run.info.status == "FINISHED"
        assert run.data.params["engines_used"] == "rapidocr"
        assert run.data.params["model_version"].startswith("PP-OCR")
        assert run.data.metrics["pages"] == 1 and run.data.metrics["mean_confidence"] > 0.8
        assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["result.json"]

        # Ctrl-C stops both, cleanly.
        running.send_signal(signal.SIGINT)
        assert wait_for(lambda: running.poll() is not None, 60), stack.logs()
        assert running.returncode == 0
        assert "Traceback" not in stack.log("run"), stack.log("run")
