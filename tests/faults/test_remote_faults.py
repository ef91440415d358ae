"""Model servers that hang, die, lie and lag: a page either gets its text or a clear reason."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest

from mlops.exceptions import JobFailed
from ocr.engines.model_client import ModelServerClient
from ocr.engines.remote import RemoteOcrEngine
from tests.misbehaving import Handler, Misbehaving
from tests.model_server import TOKEN, ModelServerProcess
from tests.services import free_port, wait_for

pytestmark = pytest.mark.faults

BOX = {"text": "hello", "confidence": 0.9, "polygon": [[1, 1], [9, 1], [9, 5], [1, 5]]}
GOOD = {"status": "succeeded", "full_text": "hello", "text_boxes": [BOX], "pages": []}


def good(handler: Handler) -> None:
    handler.answer(200, GOOD)


@pytest.fixture
def serve() -> Iterator[Callable[..., Misbehaving]]:
    with ExitStack() as stack:
        yield lambda behave, **more: stack.enter_context(Misbehaving(behave, **more))


@pytest.fixture
def client() -> Iterator[Callable[..., ModelServerClient]]:
    with ExitStack() as stack:

        def make(*servers: Misbehaving | str, **options: Any) -> ModelServerClient:
            urls = [one if isinstance(one, str) else one.url for one in servers]
            made = ModelServerClient(urls, **{"timeout": 5, "patience": 0.3, **options})
            stack.callback(made.close)
            return made

        yield make


def failed(answer: dict[str, Any], *parts: str) -> None:
    assert answer["status"] == "failed"
    assert answer["text_boxes"] == [] and answer["full_text"] == ""
    for part in parts:
        assert part in answer["error"], answer


# -- one server -------------------------------------------------------------------------------


def test_a_server_that_hangs(serve, client) -> None:
    """A page that timed out is not sent again: it may be the page that hangs the server."""
    release = threading.Event()
    hanging, second = serve(lambda _: release.wait(20)), serve(good)
    ours = client(hanging, second, timeout=0.3)
    started = time.monotonic()
    failed(ours.predict(b"page"), hanging.url, "gave no result within 0.3 s")
    assert time.monotonic() - started < 2
    assert (hanging.requests, second.requests) == (1, 0)
    release.set()


def test_a_server_whose_answer_does_not_end(serve, client) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)

    dripping = serve(drip)
    started = time.monotonic()
    failed(client(dripping, timeout=0.3).predict(b"page"), "gave no result within 0.3 s")
    assert time.monotonic() - started < 2


def test_a_server_that_dies_over_every_page(serve, client) -> None:
    """The page is tried once more, in case it was not its fault, and then no more."""
    dying, third = serve(Handler.drop), serve(Handler.drop)
    failed(client(dying).predict(b"page"), "broke the connection", "logs")
    assert dying.requests == 2
    dying.requests = 0
    failed(client(dying, third).predict(b"page"), "broke the connection")
    assert (dying.requests, third.requests) == (1, 1)


def test_a_server_that_dies_in_the_middle_of_its_answer(serve, client) -> None:
    def half(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"status": "succ')
        handler.drop()

    halving, second = serve(half), serve(good)
    assert client(halving, second).predict(b"page")["full_text"] == "hello"
    assert (halving.requests, second.requests) == (1, 1)


@pytest.mark.parametrize("status", [500, 502, 404, 301, 429])
def test_an_error_is_final(serve, client, status: int) -> None:
    body = {"error": {"message": "out of order", "code": "x"}}
    broken, second = serve(lambda handler: handler.answer(status, body)), serve(good)
    failed(client(broken, second).predict(b"page"), broken.url, str(status), "out of order")
    assert (broken.requests, second.requests) == (1, 0)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"<html>hello</html>",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b'{"status": "succeeded"}',
        b'{"status": 1, "full_text": "", "text_boxes": []}',
        b'{"status": "succeeded", "full_text": "", "text_boxes": {}}',
        b"[" * 100_000,
    ],
)
def test_garbage_is_no_result(serve, client, garbage: bytes) -> None:
    liar = serve(lambda handler: handler.answer(200, garbage))
    failed(client(liar).predict(b"page"), liar.url, "answered what is no result")


@pytest.mark.parametrize(
    "change",
    [
        {"text": 5},
        {"confidence": "sure"},
        {"confidence": float("nan")},
        {"confidence": 7},
        {"polygon": [[1, 1], [9, 1]]},
        {"polygon": [[1, 1], [9, 1], [9, 5], [1, float("inf")]]},
        {"polygon": None},
        {"spans": [1]},
    ],
)
def test_lines_of_another_form_fail_the_page(serve, change: dict[str, Any]) -> None:
    answer = {**GOOD, "text_boxes": [{**BOX, **change}]}
    liar = serve(lambda handler: handler.answer(200, answer))
    engine = RemoteOcrEngine(urls=[liar.url], timeout=5)
    with pytest.raises(JobFailed, match="not of the form agreed on"):
        engine.read(np.zeros((9, 9, 3), np.uint8), languages=("en",))
    engine.close()


def test_an_answer_too_large_is_cut_off(serve, client) -> None:
    def flood(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "900000000")
        handler.end_headers()
        with suppress(ConnectionError):
            for _ in range(900):
                handler.wfile.write(b" " * 1_000_000)

    failed(client(serve(flood)).predict(b"page"), "answered more than 67,108,864 bytes")


def test_a_server_that_starts_late(client) -> None:
    """A page waits for a server that is being started, and for one that is still loading."""
    port, loading = free_port(), {"error": {"message": "loading"}}

    def late(handler: Handler) -> None:
        if handler.server.requests < 2:
            handler.answer(503, loading, Retry_After="0")
        else:
            good(handler)

    with ExitStack() as stack:
        timer = threading.Timer(0.3, lambda: stack.enter_context(Misbehaving(late, port=port)))
        timer.start()
        ours = client(f"http://127.0.0.1:{port}", patience=10)
        assert ours.predict(b"page")["full_text"] == "hello"
        timer.join()


def test_servers_that_stay_full(serve, client) -> None:
    full = serve(lambda handler: handler.answer(503, {}, Retry_After="1"))
    failed(client(full, timeout=0.4).predict(b"page"), full.url, "full")
    assert full.requests == 1


def test_a_full_server_s_page_goes_to_the_next(serve, client) -> None:
    full = serve(lambda handler: handler.answer(503, {}, Retry_After="30"))
    second = serve(good)
    ours = client(full, second)
    for _ in range(3):
        assert ours.predict(b"page")["full_text"] == "hello"
    assert (full.requests, second.requests) == (1, 3)


# -- several servers --------------------------------------------------------------------------


def test_one_is_killed_and_no_page_is_lost() -> None:
    """Two real servers under load; one is killed with pages in it, comes back and is used again."""
    gate = {"BACKEND": "tests.fakes.GatedOcrEngine"}
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(
                ModelServerProcess("--lanes", "2", engines={"fake": gate}, default="fake")
            )
            for _ in range(2)
        )
        engine = RemoteOcrEngine(urls=[first.url, second.url], token=TOKEN, timeout=20, patience=5)
        done, stop = [0], threading.Event()

        def read(width: int) -> str:
            image = np.zeros((20, width, 3), np.uint8)
            text = engine.read(image, languages=("en",)).lines[0].text
            done[0] += 1
            return text

        def many(begin: int) -> list[tuple[int, str]]:
            widths = []
            while not stop.is_set():
                width = 30 + begin * 100 + len(widths) % 100
                widths.append((width, read(width)))
            return widths

        with ThreadPoolExecutor(8) as pool:
            readers = [pool.submit(many, begin) for begin in range(8)]
            assert wait_for(lambda: done[0] > 40)
            assert first.process is not None
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(10)
            reached = done[0]
            assert wait_for(lambda: done[0] > reached + 40)
            first.start()
            assert wait_for(lambda: first.metric("ocr_pages_total") > 10)
            stop.set()
            pages = [page for reader in readers for page in reader.result(30)]
        engine.close()
    assert all(text == f"width {width}" for width, text in pages)
