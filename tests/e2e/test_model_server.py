"""The platform with its OCR on another machine: jobs are read by a model server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr.samples import multi_page_pdf
from ocr.scoring import cer
from tests.model_server import TOKEN, ModelServerProcess
from tests.stack import Stack

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServerProcess]:
    with ModelServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def stack(server: ModelServerProcess) -> Iterator[Stack]:
    with Stack(
        OCR_MODEL_SERVER_URL=server.url,
        MODEL_SERVER_TOKEN=TOKEN,
        MODEL_SERVER_TIMEOUT="30",
        ENGINES_PRELOAD="ocr:remote",
    ) as stack:
        stack.web()
        stack.worker()
        stack.ready()
        yield stack


def test_a_job_is_read_by_the_model_server(
    stack: Stack, server: ModelServerProcess, tmp_path: Path
) -> None:
    truth = multi_page_pdf(tmp_path / "pages.pdf", 3)
    before = server.metric("ocr_pages_total")
    job = stack.ended(stack.submit(tmp_path / "pages.pdf", engine="remote"))
    assert job["status"] == "succeeded", job
    assert server.metric("ocr_pages_total") - before >= 3
    pages = stack.result(job)["pages"]
    assert [page["page"] for page in pages] == [1, 2, 3]
    for page, text in zip(pages, truth, strict=True):
        assert page["engine"] == "remote" and page["model_version"].startswith("PP-OCR")
        assert page["device"] == f"remote 127.0.0.1:{server.port}"
        assert cer(text, page["text"]) < 0.1


def test_without_a_server_the_job_says_so(
    stack: Stack, server: ModelServerProcess, tmp_path: Path
) -> None:
    multi_page_pdf(tmp_path / "page.pdf", 1)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    job = stack.ended(stack.submit(tmp_path / "page.pdf", engine="remote"))
    assert job["status"] == "failed"
    assert server.url in job["error"]["message"]
    assert "OCR_MODEL_SERVER_URL" in job["error"]["message"]
    server.start()
    job = stack.ended(stack.submit(tmp_path / "page.pdf", engine="remote"))
    assert job["status"] == "succeeded", job
