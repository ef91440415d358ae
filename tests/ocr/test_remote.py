"""The engine `remote`: a page comes back as if it had been read here."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mlops.exceptions import EngineUnavailable, JobFailed
from mlops.model_servers import Servers
from ocr.engines.model_client import ModelServerClient
from ocr.engines.remote import RemoteOcrEngine, encode
from ocr.languages import LANGUAGES
from tests.environment import ROOT
from tests.fakes import FakeOcrEngine
from tests.model_server import TOKEN, ModelServerProcess
from tests.services import free_port, wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServerProcess]:
    backend = {"BACKEND": "tests.fakes.GatedOcrEngine", "OPTIONS": {"fail_on_width": 666}}
    with ModelServerProcess("--lanes", "2", engines={"fake": backend}, default="fake") as server:
        yield server


@pytest.fixture
def engine(server: ModelServerProcess) -> Iterator[RemoteOcrEngine]:
    engine = RemoteOcrEngine(urls=[server.url], token=TOKEN, timeout=10, threads=1)
    yield engine
    engine.close()


def page(width: int = 60, height: int = 40) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)


# -- one page ---------------------------------------------------------------------------------


def test_a_page_is_read_as_here(engine: RemoteOcrEngine) -> None:
    here = FakeOcrEngine().read(page(), languages=("en",))
    assert engine.read(page(), languages=("en",)) == here
    assert engine.device.startswith("remote 127.0.0.1:")


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_lost_on_the_way(packed: bool) -> None:
    image = page(301, 203)
    with Image.open(io.BytesIO(encode(image, packed=packed))) as sent:
        assert np.array_equal(np.asarray(sent), image)
    flat = np.full((500, 500, 3), 255, np.uint8)
    assert (len(encode(flat, packed=packed)) < 20_000) == packed


def test_a_page_that_fails_there_fails_here_with_the_reason(
    server: ModelServerProcess, engine: RemoteOcrEngine
) -> None:
    with pytest.raises(JobFailed, match="a fault in the library"):
        engine.read(page(666), languages=("en",))
    other = RemoteOcrEngine(urls=[server.url], token=TOKEN, engine="fake")
    with pytest.raises(JobFailed, match="400: The engine 'fake' does not read 'ko'"):
        other.read(page(), languages=("ko",))
    other.close()
    assert engine.read(page(61), languages=("en",)).lines[0].text == "width 61"


def test_a_wrong_token_is_told(server: ModelServerProcess) -> None:
    engine = RemoteOcrEngine(urls=[server.url], token="other", timeout=5)
    with pytest.raises(JobFailed, match=r"401.*MODEL_SERVER_TOKEN"):
        engine.read(page(), languages=("en",))
    engine.close()


def test_distinct_pages_from_many_threads(engine: RemoteOcrEngine) -> None:
    with ThreadPoolExecutor(12) as pool:
        readings = pool.map(
            lambda width: engine.read(page(width), languages=("en",)), range(100, 160)
        )
        texts = [reading.lines[0].text for reading in readings]
    assert texts == [f"width {width}" for width in range(100, 160)]


def test_pages_together_are_sent_together(
    server: ModelServerProcess, engine: RemoteOcrEngine
) -> None:
    before = server.metric("ocr_pages_total")
    readings = engine.read_many([page(width) for width in range(70, 76)], languages=("en",))
    assert [reading.lines[0].text for reading in readings] == [
        f"width {width}" for width in range(70, 76)
    ]
    assert server.metric("ocr_pages_total") == before + 6
    with pytest.raises(JobFailed, match="a fault in the library"):
        engine.read_many([page(77), page(666)], languages=("en",))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_page_is_refused_before_it_is_sent(
    engine: RemoteOcrEngine, image: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="Expected RGB uint8"):
        engine.read(image, languages=("en",))


@pytest.mark.parametrize("urls", [[], ["ocr-server:8001"], ["ftp://ocr"], ["http://"]])
def test_a_url_that_is_none_is_told_at_once(urls: list[str]) -> None:
    with pytest.raises(EngineUnavailable, match="http://ocr-server:8001"):
        RemoteOcrEngine(urls=urls)


def test_the_client_gives_the_whole_answer(server: ModelServerProcess) -> None:
    client = ModelServerClient([server.url + "/"], token=TOKEN)
    answer = client.predict(
        encode(page(62), packed=True), language="en", confidence_threshold="0.95"
    )
    assert answer["status"] == "succeeded"
    assert [box["low_confidence"] for box in answer["text_boxes"]] == [True, True]
    refused = client.predict(b"no image")
    assert refused["status"] == "failed" and refused["text_boxes"] == []
    assert "400" in refused["error"] and "none of the accepted types" in refused["error"]
    client.close()


def test_settings_offer_it_where_there_are_servers(settings) -> None:
    program = (
        "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'mlops.settings';"
        "django.setup(); from mlops import engines; e = engines.configured('ocr');"
        "print(e['remote'].backend_class().name, e['remote'].options)"
    )

    def offered(**env: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert "remote" not in settings.ENGINES["ocr"]
    assert offered(
        OCR_MODEL_SERVER_URL="http://a:8001,http://b:8001",
        MODEL_SERVER_TIMEOUT="7",
        MODEL_SERVER_TOKEN="t",
    ) == ("remote {'urls': ['http://a:8001', 'http://b:8001'], 'token': 't', 'timeout': 7.0}")
    assert RemoteOcrEngine.languages == LANGUAGES.keys()


# -- which server -----------------------------------------------------------------------------


class Health:
    """Stands for the servers' /health; every URL in `well` is."""

    def __init__(self, *well: str) -> None:
        self.well = set(well)
        self.asked: list[str] = []

    def __call__(self, url: str) -> bool:
        self.asked.append(url)
        return url in self.well


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def test_the_one_with_the_least_to_do_is_taken() -> None:
    servers = Servers(["a", "b", "c"], Health(), patience=1)
    taken = [servers.take(soon()) for _ in range(6)]
    assert [one.url for one in taken if one] == ["a", "b", "c", "a", "b", "c"]
    for place in (1, 4):
        servers.give_back(taken[place])
    assert [servers.take(soon()).url for _ in range(2)] == ["b", "b"]


def test_one_that_failed_comes_back_once_it_is_well() -> None:
    health = Health()
    servers = Servers(["a", "b"], health, patience=1)
    servers.put_aside(servers.take(soon()), "is down")
    assert [servers.take(soon()).url for _ in range(3)] == ["b"] * 3
    assert wait_for(lambda: "a" in health.asked, 5)
    health.well.add("a")
    assert wait_for(lambda: servers.take(soon()).url == "a", 5)


def test_a_full_one_rests() -> None:
    servers = Servers(["a", "b"], Health(), patience=1)
    first = servers.take(soon())
    servers.rest(first, 60)
    servers.give_back(first)
    assert [servers.take(soon()).url for _ in range(3)] == ["b"] * 3


def test_where_all_are_down_a_request_waits_and_the_next_do_not() -> None:
    health = Health()
    servers = Servers(["a", "b"], health, patience=0.3)
    for _ in range(2):
        one = servers.take(soon())
        servers.put_aside(one, "is down")
        servers.give_back(one)
    started = time.monotonic()
    assert servers.take(soon()) is None
    assert 0.1 < time.monotonic() - started < 3
    started = time.monotonic()
    assert servers.take(soon()) is None
    assert time.monotonic() - started < 0.1
    assert servers.faults() == "a: is down; b: is down"
    health.well.add("b")
    assert servers.take(soon()).url == "b"


def test_who_waits_gets_the_first_that_is_well() -> None:
    health = Health()
    servers = Servers(["a"], health, patience=30)
    one = servers.take(soon())
    servers.put_aside(one, "is down")
    servers.give_back(one)
    threading.Timer(0.15, health.well.add, ["a"]).start()
    assert servers.take(soon(10)) is one


def test_full_servers_are_waited_for_until_the_deadline() -> None:
    servers = Servers(["a"], Health(), patience=0.01)
    one = servers.take(soon())
    servers.rest(one, 0.2)
    assert servers.take(soon(0.05)) is None
    assert servers.take(soon()) is one


def test_nobody_listens() -> None:
    client = ModelServerClient([f"http://127.0.0.1:{free_port()}"], patience=0.1)
    answer = client.predict(b"")
    assert answer["status"] == "failed"
    assert "can't be reached" in answer["error"] and "OCR_MODEL_SERVER_URL" in answer["error"]
    client.close()
