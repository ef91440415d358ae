"""How pages of several requests come together before an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops.engines import EngineSpec
from mlops.exceptions import EngineUnavailable
from ocr.engines.base import Reading
from ocr.serving.lanes import Abandoned, LaneEngines, LaneOptions, Traffic
from tests.services import wait_for

ENGLISH = ("en",)


class Reader:
    """One server's lanes, and a thread for each page that is on its way."""

    def __init__(self, options: LaneOptions, backend: str, **engine: Any) -> None:
        self.calls: list[int] = []
        self.traffic = Traffic()
        spec = EngineSpec("fake", f"tests.fakes.{backend}", engine)
        self.engines = LaneEngines(
            {"fake": spec, "other": EngineSpec("other", f"tests.fakes.{backend}")},
            options,
            main="fake",
            traffic=self.traffic,
            told=lambda pages, _: self.calls.append(pages),
        )
        self.lanes = self.engines.get("fake")
        self.pool = ThreadPoolExecutor(32)

    def read(
        self,
        width: int,
        *,
        languages: tuple[str, ...] = ENGLISH,
        abandoned: threading.Event | None = None,
    ) -> Future[Reading]:
        self.traffic.expect(1)

        def one() -> Reading:
            with self.traffic.page(abandoned or threading.Event()):
                page = np.zeros((8, width, 3), np.uint8)
                return self.lanes.read(page, languages=languages)

        return self.pool.submit(one)

    def occupy(self, *widths: int) -> list[Future[Reading]]:
        """Pages that lanes are busy with, until the gate opens."""
        futures = []
        for number, width in enumerate(widths, 1):
            futures.append(self.read(width))
            assert wait_for(lambda wanted=number: self.begun == wanted, 5)
        return futures

    @property
    def begun(self) -> int:
        return sum(engine.begun for engine in self.lanes.copies)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def reader(gate: Path) -> Callable[..., Reader]:
    def make(count: int = 1, *, backend: str = "BatchingOcrEngine", **engine: Any) -> Reader:
        options = LaneOptions(count=count, max_batch=4, max_wait=0.5)
        return Reader(options, backend, gate=str(gate), **engine)

    return make


def texts(futures: list[Future[Reading]]) -> list[str]:
    return [future.result(10).lines[0].text for future in futures]


def test_pages_that_wait_are_read_in_one_call(reader: Callable[..., Reader], gate: Path) -> None:
    lanes = reader()
    busy = lanes.occupy(9)
    futures = [lanes.read(width) for width in range(10, 19)]
    assert wait_for(lambda: lanes.engines.depth == 9, 5)
    gate.touch()
    assert texts([*busy, *futures]) == [f"width {width}" for width in range(9, 19)]
    assert lanes.calls == [1, 4, 4, 1]


def test_free_lanes_share_what_waits(reader: Callable[..., Reader], gate: Path) -> None:
    lanes = reader(2)
    busy = lanes.occupy(5, 6)
    futures = [lanes.read(width) for width in range(10, 14)]
    assert wait_for(lambda: lanes.engines.depth == 4, 5)
    gate.touch()
    assert texts([*busy, *futures]) == [f"width {width}" for width in (5, 6, 10, 11, 12, 13)]
    assert sum(lanes.calls) == 6 and max(lanes.calls) <= 4


def test_a_page_alone_does_not_wait_for_others(reader: Callable[..., Reader], gate: Path) -> None:
    gate.touch()
    lanes = reader()
    started = time.perf_counter()
    assert texts([lanes.read(7)]) == ["width 7"]
    assert time.perf_counter() - started < 0.25  # max_wait is 0.5


def test_a_lane_waits_for_a_page_that_is_on_its_way(
    reader: Callable[..., Reader], gate: Path
) -> None:
    gate.touch()
    lanes = reader()
    lanes.traffic.expect(1)
    assert texts([lanes.read(7), lanes.read(8)]) == ["width 7", "width 8"]
    assert lanes.calls == [2]


def test_other_languages_are_another_call(reader: Callable[..., Reader], gate: Path) -> None:
    lanes = reader()
    (first,) = lanes.occupy(5)
    french, english = [], []
    for width in (10, 12):
        french.append(lanes.read(width, languages=("fr",)))
        english.append(lanes.read(width + 1))
    assert wait_for(lambda: lanes.engines.depth == 4, 5)
    gate.touch()
    assert texts([first]) == ["width 5"]
    assert [future.result(5).language for future in french] == ["fr", "fr"]
    assert [future.result(5).language for future in english] == ["en", "en"]
    assert sorted(lanes.calls) == [1, 2, 2]


def test_a_fault_is_of_its_page_alone(reader: Callable[..., Reader], gate: Path) -> None:
    lanes = reader(fail_on_width=11)
    (first,) = lanes.occupy(5)
    futures = [lanes.read(width) for width in (10, 11, 12)]
    assert wait_for(lambda: lanes.engines.depth == 3, 5)
    gate.touch()
    assert texts([first, futures[0], futures[2]]) == ["width 5", "width 10", "width 12"]
    with pytest.raises(RuntimeError, match="a fault in the library"):
        futures[1].result(5)
    assert texts([lanes.read(20)]) == ["width 20"]


def test_what_nobody_waits_for_is_not_read(reader: Callable[..., Reader], gate: Path) -> None:
    lanes = reader()
    (first,), gone = lanes.occupy(5), threading.Event()
    dropped, kept = lanes.read(10, abandoned=gone), lanes.read(11)
    assert wait_for(lambda: lanes.engines.depth == 2, 5)
    gone.set()
    gate.touch()
    assert texts([first, kept]) == ["width 5", "width 11"]
    with pytest.raises(Abandoned):
        dropped.result(5)
    assert lanes.calls == [1, 1]


def test_an_engine_that_takes_one_page_gets_one(reader: Callable[..., Reader], gate: Path) -> None:
    gate.touch()
    lanes = reader(2, backend="GatedOcrEngine")
    assert texts([lanes.read(width) for width in range(5, 25)]) == [
        f"width {width}" for width in range(5, 25)
    ]
    assert lanes.calls == [1] * 20


def test_the_main_engine_has_a_copy_a_lane(reader: Callable[..., Reader]) -> None:
    lanes = reader(3)
    assert len({id(engine) for engine in lanes.lanes.copies}) == 3
    assert len(lanes.engines.get("other").copies) == 1
    assert lanes.lanes.device == "cpu fake" and lanes.lanes.languages == {"en", "fr"}


def test_a_missing_library_is_told() -> None:
    with pytest.raises(EngineUnavailable, match=r"requirements/ocr-paddle\.txt"):
        Reader(LaneOptions(count=2), "MissingOcrEngine")
