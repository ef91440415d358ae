"""Batches, progress as it happens, and what comes by folder, on the servers of production."""

from __future__ import annotations

import io
import json
import signal
import zipfile
from pathlib import Path

import pytest

from ocr.samples import multi_page_pdf
from ocr.scoring import cer
from tests.services import wait_for
from tests.stack import Stack

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def two_pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    path = tmp_path_factory.mktemp("pdf") / "two.pdf"
    return path, multi_page_pdf(path, 2)


def test_batch_over_uploads_and_a_prefix(production: Stack, two_pages, s3) -> None:
    path, truth = two_pages
    s3.client().upload_file(str(path), s3.bucket, "inbox/admin/2026/from-s3.pdf")
    client = production.client
    sent = {
        "files": [("files", (name, path.read_bytes())) for name in ("a.pdf", "b.pdf")],
        "data": {"language": "en", "dpi": 110, "prefix": "inbox/admin/2026", "force": "true"},
        "headers": {"Idempotency-Key": "batch-1"},
    }
    made = client.post("/api/v1/ocr/batches", **sent)
    assert made.status_code == 202, production.log("web")[-4000:]
    again = client.post("/api/v1/ocr/batches", **sent)
    assert again.status_code == 202 and again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == made.json()["id"]
    other = {**sent, "data": {**sent["data"], "dpi": 111}}
    assert client.post("/api/v1/ocr/batches", **other).status_code == 422

    events = []
    url = f"/api/v1/ocr/batches/{made.json()['id']}/events"
    with client.stream("GET", url) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line[:6] == "data: "]
    assert events[-1]["status"] == "succeeded", events[-1]
    done = [event["progress"]["done"] for event in events]
    assert done == sorted(done) and done[-1] == 6 and len(events) >= 3

    batch = client.get(made.json()["url"]).json()
    assert batch["documents"]["succeeded"] == 3
    answer = client.get(f"/api/v1/ocr/batches/{batch['id']}/results.zip?formats=txt")
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.namelist() == ["a.txt", "b.txt", "from-s3.txt"]
    for name in archive.namelist():
        assert cer("\n".join(truth), archive.read(name).decode()) < 0.05


def test_watched_folder(production: Stack, two_pages, tmp_path: Path) -> None:
    path, truth = two_pages
    inbox, out = tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    (inbox / "one.pdf").write_bytes(path.read_bytes())
    options = [str(inbox), "--out", str(out), "--language", "en", "--settle", "0.2"]
    production.manage("ocr_watch", *options, "--once")
    assert cer("\n".join(truth), (out / "one.pdf.txt").read_text()) < 0.05

    watching = production.start("watch", "manage.py", "ocr_watch", *options, "--interval", "0.2")
    (inbox / "later.pdf").write_bytes(path.read_bytes())
    assert wait_for(lambda: (out / "later.pdf.txt").exists(), 60), production.log("watch")
    watching.send_signal(signal.SIGTERM)
    assert watching.wait(20) == 0
    assert "1 files taken up, 1 read, 0 failed" in production.log("watch")
