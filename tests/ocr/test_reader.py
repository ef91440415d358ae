"""One page in, its outcome out: what is noted of it, and what becomes of one that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mlops.engines import EngineCache, EngineSpec
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr.page_image import PageImage
from ocr.pages import Limits, open_pages
from ocr.reader import ReadRequest, read_image, read_page
from tests.ocr.compass import UPRIGHT, shaded
from tests.ocr.pdfs import pdf
from tests.ocr.written_pdfs import WrittenPdf


@pytest.fixture
def engines() -> EngineCache:
    return EngineCache(
        {
            "eye": EngineSpec("eye", "tests.ocr.compass.CompassEngine"),
            "mute": EngineSpec("mute", "tests.ocr.compass.CompassEngine", {"mute": True}),
            "missing": EngineSpec("missing", "tests.fakes.MissingOcrEngine"),
        }
    )


def test_what_is_said_of_a_page(engines: EngineCache) -> None:
    outcome = read_image(shaded(), ReadRequest("auto", ("en",), "eye"), engines)
    assert (outcome.engine, outcome.language, outcome.error) == ("eye", "en", "")
    assert (outcome.model_version, outcome.device) == ("compass-1", "cpu compass")
    assert (outcome.width, outcome.height, outcome.dpi) == (300, 420, None)
    assert outcome.text == "\n".join([UPRIGHT[0]] * 3)
    assert outcome.mean_confidence == UPRIGHT[1]
    assert outcome.seconds > 0
    assert [sorted(line) for line in outcome.lines] == [["confidence", "polygon", "text"]] * 3
    first = outcome.lines[0]["polygon"]
    assert first[0] == [5.0, 84.0]


def test_a_page_without_text_has_no_confidence(engines: EngineCache) -> None:
    blank = PageImage(Image.new("RGB", (60, 40), "white"))
    outcome = read_image(blank, ReadRequest("mute", ("en",), "mute"), engines)
    assert (outcome.text, outcome.lines, outcome.mean_confidence) == ("", [], None)


def test_a_page_that_can_not_be_drawn_is_an_outcome(engines: EngineCache, tmp_path: Path) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(pdf(3).replace(b"3 0 R 4 0 R 5 0 R", b"3 0 R 9 0 R 5 0 R"))
    for text_layer in ("use", "ignore"):
        request = ReadRequest("auto", ("en",), "eye", text_layer=text_layer)
        with open_pages(path, limits=Limits()) as source:
            assert "Page 2" in read_page(source, 1, request, engines).error
            assert read_page(source, 2, request, engines).error == ""


def test_an_engine_that_is_missing_concerns_every_page(
    engines: EngineCache, tmp_path: Path
) -> None:
    path = WrittenPdf().page().save(tmp_path / "blank.pdf")
    request = ReadRequest("missing", ("ko",), "eye")
    with open_pages(path, limits=Limits()) as source, pytest.raises(EngineUnavailable):
        read_page(source, 0, request, engines)


def test_an_engine_that_does_not_exist_is_refused(engines: EngineCache) -> None:
    with pytest.raises(ApplicationError, match="There is no engine 'nose'"):
        read_image(shaded(), ReadRequest("nose", ("en",), "eye"), engines)


def test_no_page_is_made_into_an_array_twice() -> None:
    page = shaded()
    assert page.array() is page.array()
