"""Engines are loaded once, and one that can't be loaded is not tried for every page."""

from __future__ import annotations

import pytest

from mlops import engines
from mlops.engines import EngineCache, EngineSpec
from mlops.exceptions import EngineUnavailable
from tests.fakes import FakeOcrEngine

tries: list[str] = []


class ReluctantEngine(FakeOcrEngine):
    """Can be loaded the second time only."""

    def __init__(self) -> None:
        tries.append("tried")
        if len(tries) == 1:
            raise EngineUnavailable("The file model.onnx is missing.")
        super().__init__()


@pytest.fixture
def cache() -> EngineCache:
    tries.clear()
    spec = EngineSpec("reluctant", f"{__name__}.{ReluctantEngine.__name__}")
    return EngineCache({spec.alias: spec})


def test_a_failure_is_kept(cache: EngineCache) -> None:
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match=r"model\.onnx is missing"):
            cache.get("reluctant")
    assert len(tries) == 1


def test_it_is_tried_again_after_a_while(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "RETRY_SECONDS", 0.0)
    with pytest.raises(EngineUnavailable):
        cache.get("reluctant")
    assert cache.get("reluctant") is cache.get("reluctant")
    assert len(tries) == 2


def test_the_option_languages_goes_before_the_class() -> None:
    backend = "tests.fakes.FakeOcrEngine"
    assert EngineSpec("fake", backend).languages == {"en", "fr"}
    assert EngineSpec("fake", backend, {"languages": ["ko"]}).languages == {"ko"}
