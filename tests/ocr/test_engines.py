"""The real engines on pages drawn here: what they read, where, how sure, and side by side."""

from __future__ import annotations

import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mlops.exceptions import EngineUnavailable, JobFailed
from ocr.engines import device, rapidocr, tesseract
from ocr.engines.base import OcrEngine, Reading
from ocr.engines.rapidocr import RapidOcrEngine
from ocr.engines.tesseract import TesseractEngine
from ocr.layout import reading_order, rows_text
from tests.ocr.paper import CHINESE, ENGLISH, KOREAN, MIXED, hangul_font, paper
from tests.ocr.paper import error_rate as text_error_rate


@pytest.fixture(scope="module")
def font() -> Path:
    return hangul_font()


def draw(lines: list[str], font: Path, size: int = 30) -> np.ndarray:
    return paper(lines, size=size, font=font).array()


def error_rate(reading: Reading, lines: list[str]) -> float:
    return text_error_rate(rows_text(reading_order(reading.lines)), lines)


@pytest.fixture(scope="module")
def openvino() -> RapidOcrEngine:
    return RapidOcrEngine(backend="openvino", threads=2)


@pytest.fixture(scope="module")
def onnxruntime() -> RapidOcrEngine:
    return RapidOcrEngine(backend="onnxruntime", threads=2)


@pytest.fixture(scope="module")
def program() -> TesseractEngine:
    return TesseractEngine()


@pytest.fixture(params=["openvino", "onnxruntime", "program"])
def engine(request: pytest.FixtureRequest) -> OcrEngine:
    return request.getfixturevalue(request.param)


def test_a_clean_english_page_is_read_without_error(engine: OcrEngine, font: Path) -> None:
    reading = engine.read(draw(ENGLISH, font), languages=("en",))
    assert error_rate(reading, ENGLISH) < 0.01
    assert reading.language == "en"
    assert reading.model_version == engine.model_version


def test_boxes_go_clockwise_inside_the_page_and_confidences_are_shares(
    engine: OcrEngine, font: Path
) -> None:
    page = draw(ENGLISH, font)
    height, width = page.shape[:2]
    reading = engine.read(page, languages=("en",))
    assert len(reading.lines) == len(ENGLISH)
    for line in reading.lines:
        assert 0 <= line.confidence <= 1
        assert all(0 <= x <= width and 0 <= y <= height for x, y in line.polygon)
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line.polygon
        assert x0 < x1 and x3 < x2 and y0 < y3 and y1 < y2


def test_pages_read_at_once_are_never_mixed_up(engine: OcrEngine, font: Path) -> None:
    texts = [[f"Page {n}{n}{n} of the book", f"chapter {n} verse {n}{n}"] for n in range(1, 9)]
    pages = [draw(text, font) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        readings = threads.map(lambda page: engine.read(page, languages=("en",)), pages)
        for reading, text in zip(readings, texts, strict=True):
            assert error_rate(reading, text) == 0


def test_an_empty_page_has_no_lines(engine: OcrEngine) -> None:
    blank = np.full((200, 300, 3), 255, np.uint8)
    assert engine.read(blank, languages=("en",)).lines == ()


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 900, 3), (900, 3, 3)])
def test_a_sliver_of_a_page_is_no_error(engine: OcrEngine, shape: tuple[int, ...]) -> None:
    assert isinstance(engine.read(np.zeros(shape, np.uint8), languages=("en",)), Reading)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((20, 20, 3), np.float32),
        np.zeros((0, 20, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_page_is_refused(engine: OcrEngine, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Expected RGB uint8"):
        engine.read(image, languages=("en",))


def test_both_backends_read_the_same(
    openvino: RapidOcrEngine, onnxruntime: RapidOcrEngine, font: Path
) -> None:
    page = draw(ENGLISH, font, 22)
    texts = [
        rows_text(reading_order(engine.read(page, languages=("en",)).lines))
        for engine in (openvino, onnxruntime)
    ]
    assert texts[0] == texts[1]


def test_fewer_characters_to_choose_from_give_the_same_latin_text(
    openvino: RapidOcrEngine, font: Path
) -> None:
    """Cut to Latin characters or whole, the recogniser answers alike on English."""
    page = draw(ENGLISH, font)
    cut, whole = (openvino.read(page, languages=codes) for codes in (("en",), ("en", "ja")))
    assert [line.text for line in cut.lines] == [line.text for line in whole.lines]


def test_chinese_needs_all_characters(openvino: RapidOcrEngine, font: Path) -> None:
    page = draw(CHINESE, font, 40)
    assert error_rate(openvino.read(page, languages=("zh-Hant",)), CHINESE) < 0.1
    latin = rows_text(reading_order(openvino.read(page, languages=("en",)).lines))
    assert not re.search(r"[\u4e00-\u9fff]", latin)


def test_batches_of_lines_read_like_single_lines(openvino: RapidOcrEngine, font: Path) -> None:
    page = draw(ENGLISH, font)
    batched = RapidOcrEngine(backend="openvino", threads=1, recognition_batch=4)
    assert error_rate(batched.read(page, languages=("en",)), ENGLISH) < 0.01


def test_the_device_says_what_runs(openvino: RapidOcrEngine, onnxruntime: RapidOcrEngine) -> None:
    assert re.fullmatch(r"cpu openvino (int8|bf16|f16|f32)( \w+)? 2 threads", openvino.device)
    assert onnxruntime.device == "cpu onnxruntime f32 2 threads"
    assert re.fullmatch(r"PP-OCRv6-small [0-9a-f]{12}", openvino.model_version)
    assert openvino.model_version == onnxruntime.model_version


@pytest.mark.parametrize("languages", [("ko",), ("en", "ko"), ()])
def test_rapidocr_refuses_what_it_can_not_read(
    openvino: RapidOcrEngine, languages: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="can't read"):
        openvino.read(np.zeros((40, 40, 3), np.uint8), languages=languages)


@pytest.mark.parametrize("library", ["openvino", "onnxruntime", "cv2", "rapidocr"])
def test_a_missing_library_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    def find(name: str) -> object:
        return None if name == library else importlib.util.find_spec(name)

    monkeypatch.setattr(rapidocr, "find_spec", find)
    backend = "onnxruntime" if library == "onnxruntime" else "openvino"
    with pytest.raises(EngineUnavailable) as caught:
        RapidOcrEngine(backend=backend)
    assert library in caught.value.message
    assert "pip install -r requirements/ocr.txt" in caught.value.message


def test_without_openvino_auto_takes_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        return None if name == "openvino" else importlib.util.find_spec(name)

    monkeypatch.setattr(device, "find_spec", find)
    assert RapidOcrEngine(threads=1).device == "cpu onnxruntime f32 1 thread"


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=re.escape(str(tmp_path / rapidocr.DETECTION))):
        RapidOcrEngine(model_dir=tmp_path)


def test_a_missing_program_names_the_package() -> None:
    with pytest.raises(EngineUnavailable, match="apt-get install tesseract-ocr"):
        TesseractEngine(program="tesseract-is-not-here")


def test_missing_trained_data_names_the_package(
    program: TesseractEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "installed", frozenset({"en"}))
    with pytest.raises(EngineUnavailable, match=r"apt-get install tesseract-ocr-chi-sim$"):
        program.read(np.zeros((40, 40, 3), np.uint8), languages=("en", "zh-Hans"))


def test_a_page_that_takes_too_long_fails(program: TesseractEngine, font: Path) -> None:
    program = TesseractEngine()
    program._timeout = 0.001
    with pytest.raises(JobFailed, match="did not finish a page"):
        program.read(draw(ENGLISH, font), languages=("en",))


@pytest.fixture
def korean(program: TesseractEngine) -> TesseractEngine:
    if "ko" not in program.installed:
        reason = "no Korean data: apt-get install tesseract-ocr-kor"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return program


@pytest.mark.parametrize("lines", [KOREAN, MIXED, ENGLISH], ids=["korean", "mixed", "english"])
@pytest.mark.parametrize("size", [22, 32])
def test_korean_pages_with_english_words(
    korean: TesseractEngine, font: Path, lines: list[str], size: int
) -> None:
    reading = korean.read(draw(lines, font, size), languages=("ko",))
    assert error_rate(reading, lines) < 0.02


def test_a_korean_word_read_as_latin_letters_is_replaced() -> None:
    def word(text: str, confidence: float, left: int, spaced: bool = True) -> tesseract._Word:
        return tesseract._Word(text, confidence, ("1", "1", "1"), left, 0, left + 40, 20, spaced)

    both = [word("Product", 0.93, 0), word("AlSH", 0.65, 50), word("2C}", 0.5, 100)]
    alone = [word("『「004", 0.03, 0), word("제품명", 0.84, 50)]
    alone += [tesseract._Word("대", 0.9, ("9",), 110, 0, 130, 20, False)]
    corrected = tesseract._corrected(both, alone)
    assert [one.text for one in corrected] == ["Product", "제품명", "대"]
    assert {one.line for one in corrected} == {("1", "1", "1")}


def test_scripts_are_told_apart(korean: TesseractEngine, font: Path) -> None:
    script, confidence = korean.detect_script(draw(ENGLISH * 3, font, 36))
    assert script == "Latn"
    assert confidence > 0
    assert korean.detect_script(np.full((60, 60, 3), 255, np.uint8)) == ("", 0.0)
