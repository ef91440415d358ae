"""`language=auto`: the default engine reads, and another where it visibly left gaps."""

from __future__ import annotations

import pytest

from mlops.engines import EngineCache
from ocr.reader import PageOutcome, ReadRequest, read_image
from tests.ocr.paper import CHINESE, ENGLISH, KOREAN, MIXED, error_rate, paper


def read(
    lines: list[str], engines: EngineCache, *, engine: str = "auto", size: int = 30
) -> PageOutcome:
    return read_image(paper(lines, size=size), ReadRequest(engine, ("auto",), "rapidocr"), engines)


@pytest.mark.parametrize("lines", [KOREAN, MIXED], ids=["korean", "mixed"])
def test_the_engine_that_knows_hangul_reads_it(real_engines: EngineCache, lines: list[str]) -> None:
    outcome = read(lines, real_engines)
    assert (outcome.engine, outcome.language) == ("tesseract", "ko")
    assert "Korean" in outcome.note
    assert error_rate(outcome.text, lines) < 0.02


def test_chinese_is_read_by_the_same_engine(real_engines: EngineCache) -> None:
    outcome = read(CHINESE, real_engines, size=40)
    assert outcome.engine == "rapidocr"
    assert set(outcome.language.split("+")) == {"zh-Hans", "zh-Hant", "ja"}
    assert error_rate(outcome.text, CHINESE) < 0.1


def test_a_good_reading_is_left_alone(real_engines: EngineCache) -> None:
    outcome = read(ENGLISH, real_engines)
    assert (outcome.engine, outcome.language, outcome.note) == ("rapidocr", "auto", "")
    assert error_rate(outcome.text, ENGLISH) < 0.01


def test_the_engine_that_was_asked_for_is_kept(real_engines: EngineCache) -> None:
    outcome = read(KOREAN, real_engines, engine="rapidocr")
    assert (outcome.engine, outcome.language) == ("rapidocr", "auto")
