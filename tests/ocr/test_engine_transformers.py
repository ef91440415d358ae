"""Models of the transformers library, made here: where from, by lines and by pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mlops.exceptions import EngineUnavailable, NotInstalled
from ocr.engines import transformers
from ocr.engines.transformers import TransformersEngine
from tests.ocr import engine_zoo

pytestmark = engine_zoo.needs("trocr")


def test_lines_stand_where_the_detector_found_them() -> None:
    lines = engine_zoo.build("trocr").read(engine_zoo.page(3), languages=("en",)).lines
    assert {line.text for line in lines} == set(engine_zoo.PAGES[3])
    first, second = sorted(lines, key=lambda line: line.polygon[0][1])
    assert (first.text, second.text) == engine_zoo.PAGES[3]
    # As `engine_zoo.page` draws them.
    assert first.polygon[0] == pytest.approx((150, 180), abs=14)
    assert second.polygon[0] == pytest.approx((150, 250), abs=14)


def test_a_whole_page_keeps_its_order_and_claims_no_places() -> None:
    lines = engine_zoo.build("llava").read(engine_zoo.page(1), languages=("en",)).lines
    assert tuple(line.text for line in lines) == engine_zoo.PAGES[1]
    assert {line.polygon for line in lines} == {((0, 0), (640, 0), (640, 360), (0, 360))}
    assert all(0.3 < line.confidence <= 1 for line in lines)


def test_a_chat_model_reads_lines_too() -> None:
    engine = TransformersEngine(threads=1, model=engine_zoo.llava_folder(), mode="lines")
    lines = engine.read(engine_zoo.page(1), languages=("en",)).lines
    assert len(lines) == 2
    assert len({line.polygon for line in lines}) == 2


def test_an_answer_ends_at_its_limit() -> None:
    engine = TransformersEngine(threads=1, model=engine_zoo.llava_folder(), max_tokens=3)
    (line,) = engine.read(engine_zoo.page(1), languages=("en",)).lines
    assert line.text == engine_zoo.PAGES[1][0]


def test_half_precision() -> None:
    engine = TransformersEngine(threads=1, model=engine_zoo.llava_folder(), dtype="bfloat16")
    assert engine.device == "cpu torch bfloat16 1 thread"
    lines = engine.read(engine_zoo.page(1), languages=("en",)).lines
    assert tuple(line.text for line in lines) == engine_zoo.PAGES[1]


def test_confidence_is_of_each_line() -> None:
    tokenizer = engine_zoo.build("llava")._processor.tokenizer
    tokens = tokenizer("BREAD 11\nNUMBER").input_ids
    assert len(tokens) == 5
    answer = transformers._answer(tokenizer, [*tokens, 2], [0.8, 0.6, 0.4, 0.2, 0.5, 0.0])
    assert answer == [("BREAD 11", pytest.approx(0.5)), ("NUMBER", 0.5)]


def test_the_version_tells_weights_apart(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(engine_zoo.trocr_folder(), tmp_path / "trocr"))
    engine = TransformersEngine(threads=1, model=copy)
    assert engine.model_version == engine_zoo.build("trocr").model_version
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = TransformersEngine(threads=1, model=copy)
    assert changed.model_version != engine.model_version


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", r"lacks the file .*/trocr/config\.json"),
        ("model.safetensors", r"can't load .*/trocr: .*model\.safetensors"),
        ("tokenizer.json", r"can't load .*/trocr: .*tokenizer"),
    ],
)
def test_a_missing_file_is_said(tmp_path: Path, name: str, said: str) -> None:
    copy = Path(shutil.copytree(engine_zoo.trocr_folder(), tmp_path / "trocr"))
    (copy / name).unlink()
    with pytest.raises(EngineUnavailable, match=f"(?s){said}"):
        TransformersEngine(model=copy)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "has no model"),
        ({"model": "nobody/no-such-model"}, r"nobody/no-such-model \(set download"),
        ({"model": "nobody/no-such-model", "device": "cuda:0"}, "cuda:0"),
    ],
)
def test_what_can_not_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(EngineUnavailable, match=said):
        TransformersEngine(**options)


def test_languages_are_what_the_option_says() -> None:
    engine = engine_zoo.build("trocr")
    assert engine.installed == {"en"}
    with pytest.raises(ValueError, match="can't read ko"):
        engine.read(np.zeros((9, 9, 3), np.uint8), languages=("ko",))


@pytest.mark.parametrize("library", ["transformers", "torch"])
def test_a_missing_library_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(transformers, "find_spec", lambda name: None if name == library else name)
    with pytest.raises(NotInstalled, match=r"requirements/ocr-transformers\.txt"):
        TransformersEngine(model="any")
