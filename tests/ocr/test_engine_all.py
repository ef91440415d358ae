"""What holds for every engine: one page through each, many pages at once, what is no page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ocr.engines.base import OcrEngine, Reading
from ocr.layout import lay_out, page_text
from ocr.scoring import cer
from ocr.selftest import PASSING_CER, drawn_pages, run_self_test
from tests.ocr import engine_zoo


@pytest.fixture(params=engine_zoo.engine_params())
def engine(request: pytest.FixtureRequest) -> OcrEngine:
    return engine_zoo.build(request.param)


def text_of(reading: Reading, image: np.ndarray) -> str:
    return page_text(lay_out(reading.lines, image.shape[1], image.shape[0]))


def test_each_reads_the_page_of_its_self_test(engine: OcrEngine) -> None:
    trials = run_self_test(engine)
    assert trials
    assert [trial.cer for trial in trials if trial.cer > PASSING_CER] == []


def test_pages_read_at_once_are_never_mixed_up(engine: OcrEngine) -> None:
    numbers = [0, 1, 2, 3] * 2
    truths = ["\n".join(lines) for lines in engine_zoo.PAGES]
    with ThreadPoolExecutor(4) as threads:
        images = [engine_zoo.page(number) for number in numbers]
        readings = list(threads.map(lambda image: engine.read(image, languages=("en",)), images))
    for number, image, reading in zip(numbers, images, readings, strict=True):
        errors = [cer(truth, text_of(reading, image)) for truth in truths]
        assert errors[number] <= PASSING_CER
        assert min(errors[:number] + errors[number + 1 :]) > 0.4


def test_what_an_engine_gives_back_is_in_its_ranges(engine: OcrEngine) -> None:
    image = engine_zoo.page(0)
    height, width = image.shape[:2]
    reading = engine.read(image, languages=("en",))
    assert reading.language == "en"
    assert reading.model_version == engine.model_version
    assert engine.device.startswith("cpu ")
    for line in reading.lines:
        assert line.text == line.text.strip() != ""
        assert 0 <= line.confidence <= 1
        assert len(line.polygon) >= 4
        assert all(0 <= x <= width and 0 <= y <= height for x, y in line.polygon)
        assert len(line.spans) in (0, len(line.text.split()))
        edges = [edge for span in line.spans for edge in span]
        assert edges == sorted(edges)
        assert all(0 <= edge <= 1 for edge in edges)


@pytest.mark.parametrize("alias", engine_zoo.engine_params("tesseract", "paddleocr"))
def test_spans_lie_on_the_words(alias: str) -> None:
    """The ink of a drawn line begins and ends where the spans say that its words do."""
    image = engine_zoo.page(1)
    lines = engine_zoo.build(alias).read(image, languages=("en",)).lines
    (line,) = [line for line in lines if line.text == "THE TABLE AND THE PLATE 2"]
    (left, top), (right, _), (_, bottom) = line.polygon[:3]
    ink = (image[int(top) : int(bottom), :, 0] < 128).any(axis=0)
    for (begin, end), (_, following) in zip(line.spans, line.spans[1:], strict=False):
        word = slice(round(left + begin * (right - left)), round(left + end * (right - left)))
        gap = slice(word.stop, round(left + following * (right - left)))
        assert ink[word].mean() > 0.6
        # The gap is somewhere between a word and the end of the next.
        assert not ink[gap].all()


# A chat model of a few thousand weights has an answer to everything.
@pytest.mark.parametrize(
    "alias",
    engine_zoo.engine_params(*(alias for alias in engine_zoo.ALIASES if alias != "llava")),
)
def test_a_blank_page_has_no_lines(alias: str) -> None:
    blank = np.full((200, 300, 3), 255, np.uint8)
    assert engine_zoo.build(alias).read(blank, languages=("en",)).lines == ()


@pytest.mark.parametrize(
    "image",
    [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 4), np.uint8), np.zeros((9, 9, 3), float)],
    ids=["grey", "alpha", "float"],
)
def test_what_is_no_rgb_page_is_refused(engine: OcrEngine, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="Expected RGB uint8"):
        engine.read(image, languages=("en",))


def test_auto_reads_with_what_it_has(engine: OcrEngine) -> None:
    image = np.asarray(drawn_pages(["en"])[0].image)
    assert engine.read(image, languages=("auto",)).lines
