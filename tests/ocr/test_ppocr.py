"""PP-OCR's networks as they are run here: in 8-bit integers, many pages at a time, words placed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocr.engines.base import Reading
from ocr.engines.ppocr_int8 import best_range, ranges_of
from ocr.engines.rapidocr import RapidOcrEngine
from ocr.engines.wheel_models import DETECTION, RECOGNITION, wheel_model
from ocr.layout import lay_out, page_text
from tests.ocr.paper import ENGLISH
from tests.ocr.paper import error_rate as text_error_rate


@pytest.fixture(scope="module")
def openvino() -> RapidOcrEngine:
    return RapidOcrEngine(backend="openvino", threads=2)


def draw(lines: list[str], size: int = 26) -> np.ndarray:
    font = ImageFont.load_default(size)
    page = Image.new("RGB", (1000, 60 * len(lines) + 40), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((40, 30 + 60 * number), line, fill="black", font=font)
    return np.asarray(page)


def error_rate(page: np.ndarray, reading: Reading, lines: list[str]) -> float:
    return text_error_rate(page_text(lay_out(reading.lines, page.shape[1], page.shape[0])), lines)


def test_eight_bits_read_as_well_as_floats() -> None:
    quick, exact = (RapidOcrEngine(threads=2, precision=p) for p in ("int8", "f32"))
    assert quick.device.startswith("cpu openvino int8")
    page = draw(ENGLISH * 2)
    for engine in (quick, exact):
        assert error_rate(page, engine.read(page, languages=("en",)), ENGLISH * 2) < 0.01


def test_models_that_were_not_measured_stay_as_they_are(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another model")
    assert ranges_of(other) == {}
    known = {name: ranges_of(wheel_model(name, engine="test")) for name in (DETECTION, RECOGNITION)}
    assert all(len(ranges) > 20 for ranges in known.values())
    assert all(low <= 0 < high for ranges in known.values() for low, high in ranges.values())


def test_a_range_clips_what_is_rare() -> None:
    values = np.concatenate((np.linspace(-1, 1, 100_000), [40.0])).astype(np.float32)
    low, high = best_range(values)
    assert -1.1 < low <= -0.9
    assert high < 40


def test_pages_read_together_are_read_as_if_alone(openvino: RapidOcrEngine) -> None:
    pages = [draw(lines, size) for lines, size in ((ENGLISH, 26), (ENGLISH[:1], 40))]
    pages.append(np.full((90, 300, 3), 255, np.uint8))
    together = openvino.read_many(pages, languages=("en",))
    assert together == [openvino.read(page, languages=("en",)) for page in pages]
    assert together[2].lines == ()
    batched = RapidOcrEngine(backend="openvino", threads=2, recognition_batch=4)
    assert batched.batches and not openvino.batches
    for one, other in zip(batched.read_many(pages, languages=("en",)), together, strict=True):
        assert {line.text for line in one.lines} == {line.text for line in other.lines}


def test_words_are_placed_where_they_stand(openvino: RapidOcrEngine) -> None:
    """Each word's ink lies within its span, and between two spans there is none."""
    font = ImageFont.load_default(32)
    text = "mm iiii WWW. 12"
    page = Image.new("RGB", (520, 90), "white")
    drawing = ImageDraw.Draw(page)
    drawing.text((20, 20), text, fill="black", font=font)
    (line,) = openvino.read(np.asarray(page), languages=("en",)).lines
    assert line.text == text
    (left, _), (right, _) = line.polygon[0], line.polygon[1]
    found = [
        (left + begin * (right - left), left + end * (right - left)) for begin, end in line.spans
    ]
    for number, word in enumerate(text.split()):
        begin = 20 + font.getlength(" ".join([*text.split()[:number], ""]))
        end = begin + font.getlength(word)
        assert abs(found[number][0] - begin) < 12, word
        assert abs(found[number][1] - end) < 12, word
