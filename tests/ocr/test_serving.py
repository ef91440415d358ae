"""The model server as a process: what it answers, refuses, counts, and how it ends."""

from __future__ import annotations

import io
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from PIL import Image

from ocr.samples import multi_page_pdf, render_samples
from ocr.scoring import cer
from tests.model_server import TOKEN, ModelServerProcess
from tests.services import wait_for

Png = Callable[..., bytes]


def fake(backend: str, **options: object) -> dict[str, object]:
    return {"fake": {"BACKEND": f"tests.fakes.{backend}", "OPTIONS": options}}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServerProcess]:
    with ModelServerProcess(
        *("--lanes", "2", "--max-pages", "5", "--max-wait-ms", "50"),
        engines=fake("BatchingOcrEngine", fail_on_width=666),
        default="fake",
        MAX_UPLOAD_MB="1",
    ) as server:
        yield server


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def gated(gate: Path) -> Iterator[ModelServerProcess]:
    """One page at a time, and none before the gate is open; three requests are held."""
    with ModelServerProcess(
        *("--lanes", "1", "--queue", "3", "--stop-seconds", "1"),
        engines=fake("GatedOcrEngine", gate=str(gate)),
        default="fake",
    ) as server:
        yield server


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


# -- what is answered -------------------------------------------------------------------------


def test_health_is_for_everyone(server: ModelServerProcess) -> None:
    answer = httpx2.get(f"{server.url}/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "model_loaded": True}


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Token {TOKEN}", "Bearer"])
@pytest.mark.parametrize("path", ["/predict", "/metrics"])
def test_all_else_wants_the_token(
    server: ModelServerProcess, png: Png, path: str, sent: str | None
) -> None:
    headers = {"Authorization": sent} if sent else {}
    if path == "/predict":
        answer = httpx2.post(server.url + path, files={"image": png()}, headers=headers)
    else:
        answer = httpx2.get(server.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "not_authenticated"


def test_prediction(server: ModelServerProcess, png: Png) -> None:
    answer = server.predict(png(60), confidence_threshold="0.5")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["error"]) == ("succeeded", None)
    assert body["full_text"].split() == ["width", "60", "faint"]
    first, faint = body["text_boxes"]
    assert first == {
        "page": 1,
        "text": "width 60",
        "confidence": 0.9,
        "polygon": [[1.0, 2.0], [30.0, 2.0], [30.0, 9.0], [1.0, 9.0]],
        "low_confidence": False,
    }
    # Flagged, never dropped.
    assert faint["text"] == "faint" and faint["low_confidence"] is True
    (page,) = body["pages"]
    assert (page["width"], page["height"], page["engine"]) == (60, 40, "fake")
    assert (page["model_version"], page["device"]) == ("fake-1", "cpu fake")


def test_an_image_is_all_that_is_needed(server: ModelServerProcess, png: Png) -> None:
    """As the clients of earlier servers send it."""
    answer = server.client.post("/predict", files={"image": ("page.png", png(61), "image/png")})
    assert answer.status_code == 200
    assert {"text_boxes", "full_text", "status"} <= answer.json().keys()
    assert answer.json()["full_text"].startswith("width 61")


def test_pages_of_a_document_in_order(server: ModelServerProcess, png: Png) -> None:
    body = server.predict(png(70, form="TIFF", pages=4)).json()
    assert [page["width"] for page in body["pages"]] == [70, 71, 72, 73]
    assert [box["page"] for box in body["text_boxes"]] == [1, 1, 2, 2, 3, 3, 4, 4]
    texts = [page.split() for page in body["full_text"].split("\f")]
    assert texts == [["width", str(width), "faint"] for width in range(70, 74)]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"language": "klingon"}, "language", "invalid"),
        ({"engine": "none"}, "engine", "unknown_engine"),
        ({"engine": "remote"}, "engine", "unknown_engine"),
        ({"engine": "fake", "language": "ko"}, "language", "unsupported_language"),
        ({"confidence_threshold": "2"}, "confidence_threshold", "invalid"),
        ({"confidence_threshold": "nan"}, "confidence_threshold", "invalid"),
        ({"use_angle_cls": "perhaps"}, "rotate", "invalid"),
        ({"dpi": "9"}, "dpi", "invalid"),
        ({"text_layer": "some"}, "text_layer", "invalid"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    server: ModelServerProcess, png: Png, fields: dict[str, str], param: str, code: str
) -> None:
    answer = server.predict(png(), **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert error["param"] in (param, *fields) and error["message"]
    assert answer.json()["status"] == "failed"


def test_uploads_are_distrusted(server: ModelServerProcess, png: Png) -> None:
    def refused(status: int, code: str, image: bytes) -> None:
        answer = server.predict(image)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    refused(400, "unsupported_type", b"#!/bin/sh\n" * 20)
    refused(400, "empty_file", b"")
    refused(400, "too_many_pages", png(form="TIFF", pages=6))
    refused(413, "file_too_large", b"x" * 2_000_000)
    whole = png(300, 300)
    assert server.predict(whole[: len(whole) // 2]).status_code in (400, 422)

    no_file = server.client.post("/predict", data={"image": "not a file"})
    assert (no_file.status_code, no_file.json()["error"]["param"]) == (400, "image")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    garbage = server.client.post("/predict", content=b"garbage", headers=headers)
    assert garbage.status_code == 400
    assert server.client.get("/predict").status_code == 405
    assert server.client.get("/none").json()["error"]["type"] == "not_found_error"
    assert server.predict(png(62)).json()["full_text"].startswith("width 62")


def test_a_fault_in_the_engine_fails_its_page_alone(server: ModelServerProcess, png: Png) -> None:
    answer = server.predict(png(665, form="TIFF", pages=3))
    assert answer.status_code == 422
    body = answer.json()
    assert body["status"] == "failed"
    assert "Page 2" in body["error"] and "a fault in the library" in body["error"]
    assert [page["error"] is None for page in body["pages"]] == [True, False, True]
    assert {box["page"] for box in body["text_boxes"]} == {1, 3}
    assert server.predict(png(63)).status_code == 200


def test_requests_at_once_are_never_mixed(
    server: ModelServerProcess, png: Png, clients: ThreadPoolExecutor
) -> None:
    widths = range(100, 148)
    answers = list(clients.map(lambda width: server.predict(png(width)), widths))
    assert [answer.json()["full_text"].split() for answer in answers] == [
        ["width", str(width), "faint"] for width in widths
    ]


def test_requests_that_wait_are_read_together(
    gate: Path, clients: ThreadPoolExecutor, png: Png
) -> None:
    """While the one lane is held by a page, four more come: they are its next batch."""
    with ModelServerProcess(
        *("--lanes", "1", "--max-wait-ms", "0"),
        engines=fake("BatchingOcrEngine", gate=str(gate)),
        default="fake",
    ) as server:
        held = hold(server, clients, png, 10)
        assert wait_for(gate.with_name("gate.begun").exists, 10)
        held += hold(server, clients, png, 11, 12, 13, 14, before=1)
        assert wait_for(lambda: server.metric("ocr_queue_depth") == 4, 10)
        gate.touch()
        texts = [future.result(10).json()["full_text"].split()[1] for future in held]
        assert texts == ["10", "11", "12", "13", "14"]
        # A page may be looked at more than once, but the four never one by one.
        pages, calls = server.metric("ocr_batch_pages_sum"), server.metric("ocr_batch_pages_count")
        assert pages - calls >= 3


def test_metrics(server: ModelServerProcess, png: Png) -> None:
    before = server.metric("ocr_requests_total", status="200")
    read, seconds = server.metric("ocr_pages_total"), server.metric("ocr_request_seconds_count")
    assert server.predict(png(form="TIFF", pages=2)).status_code == 200
    assert server.metric("ocr_requests_total", status="200") == before + 1
    assert server.metric("ocr_pages_total") == read + 2
    assert server.metric("ocr_request_seconds_count") == seconds + 1
    assert server.metric("ocr_engine_seconds_total") > 0
    assert server.metric("ocr_model_loaded") == 1
    assert server.metric("ocr_model_info", engine="fake", model_version="fake-1") == 1
    assert server.metric("ocr_requests_in_flight") == 0 == server.metric("ocr_queue_depth")
    assert server.metric("process_resident_memory_bytes") > 1e6
    answer = server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


# -- too much at once, and clients that go ----------------------------------------------------


def hold(
    server: ModelServerProcess, pool: ThreadPoolExecutor, png: Png, *widths: int, before: int = 0
) -> list[Future[httpx2.Response]]:
    """Requests that the server has taken and can't answer before the gate is open.

    `before`: how many it held already.
    """
    futures: list[Future[httpx2.Response]] = []
    for width in widths:
        futures.append(pool.submit(server.predict, png(width)))
        assert wait_for(
            lambda: server.metric("ocr_requests_in_flight") == before + len(futures), 10
        )
    return futures


def test_a_full_queue_says_when_to_come_back(
    gated: ModelServerProcess, gate: Path, clients: ThreadPoolExecutor, png: Png
) -> None:
    held = hold(gated, clients, png, 10, 11, 12)
    answer = gated.predict(png(13))
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert answer.json()["error"]["code"] == "queue_full"
    assert gated.metric("ocr_requests_total", status="503") == 1
    gate.touch()
    texts = [future.result(10).json()["full_text"].split("\n")[0] for future in held]
    assert texts == ["width 10", "width 11", "width 12"]
    assert gated.predict(png(13)).status_code == 200


def test_a_client_that_goes_is_not_worked_for(
    gated: ModelServerProcess, gate: Path, clients: ThreadPoolExecutor, png: Png
) -> None:
    held = hold(gated, clients, png, 10)
    body = multipart(png(20, form="TIFF", pages=9))
    leaving = socket.create_connection(("127.0.0.1", gated.port))
    leaving.sendall(body)
    assert wait_for(lambda: gated.metric("ocr_requests_in_flight") == 2, 10)
    leaving.close()
    staying = clients.submit(gated.predict, png(11))
    # That the client has gone may be seen before the next one comes, or after.
    assert wait_for(
        lambda: (
            gated.metric("ocr_requests_in_flight") == 3
            or gated.metric("ocr_requests_total", status="499") == 1
        ),
        10,
    )
    gate.touch()
    assert [future.result(10).status_code for future in (*held, staying)] == [200, 200]
    assert wait_for(lambda: gated.metric("ocr_requests_in_flight") == 0, 10)
    assert gated.metric("ocr_requests_total", status="499") == 1
    # At the most, the page that was being decoded as the client went was read as well.
    assert gated.metric("ocr_pages_total") <= 3


def multipart(image: bytes) -> bytes:
    """A whole request, to be sent by hand."""
    head = 'Content-Disposition: form-data; name="image"; filename="p"'
    language = 'Content-Disposition: form-data; name="language"\r\n\r\nen'
    parts = f"--b\r\n{language}\r\n--b\r\n{head}\r\n\r\n".encode() + image + b"\r\n--b--\r\n"
    return (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(parts)}\r\n\r\n"
    ).encode() + parts


# -- beginning and end ------------------------------------------------------------------------


def test_told_to_stop_it_finishes_what_it_has_taken(
    gated: ModelServerProcess, gate: Path, clients: ThreadPoolExecutor, png: Png
) -> None:
    held = hold(gated, clients, png, 10, 11)
    assert gated.process is not None
    gated.process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: not listening(gated.port), 10)
    gate.touch()
    assert [future.result(10).status_code for future in held] == [200, 200]
    assert gated.process.wait(20) == 0


def test_it_does_not_wait_for_ever(
    gated: ModelServerProcess, clients: ThreadPoolExecutor, png: Png
) -> None:
    (held,) = hold(gated, clients, png, 10)
    assert gated.process is not None
    gated.process.send_signal(signal.SIGTERM)
    assert gated.process.wait(20) == 1
    assert held.result(10).status_code == 500
    assert "stopped_with_requests_unanswered" in gated.log()


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_it_says_that_it_is_loading(gate: Path, png: Png) -> None:
    with ModelServerProcess(
        engines=fake("GatedOcrEngine", load_gate=str(gate)), default="fake", loaded=False
    ) as server:
        answer = server.client.get("/health")
        assert answer.status_code == 503
        assert answer.json() == {"status": "loading", "model_loaded": False}
        early = server.predict(png())
        assert (early.status_code, early.json()["error"]["code"]) == (503, "loading")
        assert early.headers["retry-after"] == "1"
        assert server.metric("ocr_model_loaded") == 0
        gate.touch()
        assert wait_for(lambda: server.client.get("/health").json()["model_loaded"], 10)
        assert server.predict(png(64)).json()["full_text"].startswith("width 64")


def test_told_to_stop_while_loading_it_ends(gate: Path) -> None:
    with ModelServerProcess(
        engines=fake("GatedOcrEngine", load_gate=str(gate)), default="fake", loaded=False
    ) as server:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_model_that_can_not_be_loaded_ends_it() -> None:
    server = ModelServerProcess(engines=fake("MissingOcrEngine"), default="fake", loaded=False)
    try:
        server.start()
        assert server.process is not None and server.process.wait(20) == 1
    except RuntimeError:
        # It had ended before it was found to listen.
        pass
    try:
        assert "pip install -r requirements/ocr-paddle.txt" in server.log()
    finally:
        server.close()


def test_it_needs_a_secret_to_serve_other_machines(settings) -> None:
    settings.MODEL_SERVER_TOKEN = ""
    for host in ("0.0.0.0", "::", "ocr-server"):
        with pytest.raises(CommandError, match="MODEL_SERVER_TOKEN"):
            call_command("serve_ocr", host=host)


def test_it_does_not_serve_other_servers(settings) -> None:
    settings.ENGINES = {
        "ocr": {
            "remote": {"BACKEND": "ocr.engines.remote.RemoteOcrEngine"},
            "fake": {"BACKEND": "tests.fakes.FakeOcrEngine"},
        }
    }
    with pytest.raises(CommandError, match=r"'remote' can't be served.*: fake\."):
        call_command("serve_ocr", engine="remote")


# -- with the real engine ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[ModelServerProcess]:
    with ModelServerProcess() as server:
        yield server


def test_a_real_page(real: ModelServerProcess, tmp_path: Path) -> None:
    receipt = next(one for one in render_samples(tmp_path) if one.name == "receipt")
    answer = real.predict(receipt.path.read_bytes())
    assert answer.status_code == 200
    body = answer.json()
    assert cer(receipt.truth[0], body["full_text"]) < 0.02
    page = body["pages"][0]
    assert page["engine"] == "rapidocr" and page["model_version"].startswith("PP-OCR")
    with Image.open(receipt.path) as image:
        assert (page["width"], page["height"]) == image.size
        total = next(box for box in body["text_boxes"] if box["text"].startswith("TOTAL"))
        xs, ys = zip(*total["polygon"], strict=True)
        ink = image.convert("L").crop((min(xs), min(ys), max(xs), max(ys)))
    assert ink.getextrema()[0] < 100


def test_real_pages_at_once(
    real: ModelServerProcess, clients: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """Every page gets its own text, in whatever company it is read."""
    truth = multi_page_pdf(tmp_path / "pages.pdf", 12)
    images = pages_of(tmp_path / "pages.pdf")
    for image, answer, text in zip(images, clients.map(real.predict, images), truth, strict=True):
        assert answer.status_code == 200, (len(image), answer.text)
        assert cer(text, answer.json()["full_text"]) < 0.1
    whole = real.predict((tmp_path / "pages.pdf").read_bytes(), dpi="110").json()
    for number, (read, text) in enumerate(
        zip(whole["full_text"].split("\f"), truth, strict=True), 1
    ):
        assert re.search(rf"Page {number} of 12", read) and cer(text, read.strip()) < 0.1


def pages_of(path: Path) -> list[bytes]:
    import pypdfium2 as pdfium

    document = pdfium.PdfDocument(path)
    images = []
    for page in document:
        target = io.BytesIO()
        page.render(scale=110 / 72).to_pil().save(target, "PNG")
        images.append(target.getvalue())
    document.close()
    return images
