"""A PDF's own text: taken where it is all there is to see, left aside where it isn't."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from mlops.engines import EngineCache
from ocr.pages import open_pages
from ocr.reader import PageOutcome, ReadRequest, read_page
from ocr.text_layer import TextLayer, _readable
from tests.ocr.files import LIMITS
from tests.ocr.paper import hangul_font, paper
from tests.ocr.pdfs import pdf, pdf_form
from tests.ocr.written_pdfs import INVISIBLE, WrittenPdf

TEXT = [
    "The quick brown fox jumps over the lazy dog.",
    "Payment is due within 30 days of receipt.",
    "An efficient office affords first floors.",
]
NO_ENGINE = EngineCache({})


def layer(path: Path, index: int = 0, dpi: int = 100) -> TextLayer | None:
    with open_pages(path, dpi=dpi, limits=LIMITS) as pages:
        return pages.text_layer(index)


def read(path: Path, index: int = 0, **options: object) -> PageOutcome:
    request = ReadRequest("auto", ("en",), "rapidocr", **options)
    with open_pages(path, dpi=100, limits=LIMITS) as pages:
        return read_page(pages, index, request, NO_ENGINE)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "document.pdf"


# What is taken


def test_a_born_digital_page_needs_no_engine(out: Path) -> None:
    outcome = read(WrittenPdf().page().lines(TEXT).save(out))
    assert outcome.text == "\n".join(TEXT)
    assert (outcome.engine, outcome.mean_confidence) == ("text-layer", 1.0)
    assert outcome.model_version.startswith("pdfium 1")
    assert (outcome.width, outcome.height, outcome.dpi) == (827, 1170, 100)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (50, 300, 560, 800)])
def test_boxes_lie_on_the_ink(out: Path, rotate: int, crop: tuple | None) -> None:
    """Whatever the page's /Rotate and crop box; and its text comes out upright."""
    document = WrittenPdf().page(rotate=rotate).lines(TEXT, size=14)
    if crop:
        document.crop(*crop)
    outcome = read(document.save(out))
    assert outcome.text == "\n".join(TEXT)
    assert outcome.rotation == (360 - rotate) % 360
    with open_pages(out, dpi=100, limits=LIMITS) as pages:
        page = pages.render(0).turned(outcome.rotation)
    assert (page.width, page.height) == (outcome.width, outcome.height)
    ink = page.image.convert("L")
    for line in outcome.lines:
        (left, top), _, (right, bottom), _ = line["polygon"]
        assert right - left > bottom - top > 10
        assert ink.crop((left, top, right, bottom)).getextrema()[0] < 60
        for begin, end in line["spans"]:
            word = left + (right - left) * begin, left + (right - left) * end
            assert ink.crop((word[0], top, word[1], bottom)).getextrema()[0] < 60
        assert len(line["spans"]) == len(line["text"].split())
        ink.paste(255, (round(left) - 2, round(top) - 2, round(right) + 3, round(bottom) + 2))
    assert ink.getextrema()[0] > 200  # nothing is left outside the boxes


def test_pages_stay_as_drawn_without_leave_to_rotate(out: Path) -> None:
    outcome = read(WrittenPdf().page(rotate=180).lines(TEXT).save(out), rotate=False)
    assert outcome.rotation == 0
    (x0, _), (x1, _), *_ = outcome.lines[0]["polygon"]
    assert x0 > x1


def test_turned_and_slanted_runs_keep_their_direction(out: Path) -> None:
    document = WrittenPdf().page().lines(TEXT * 3)
    document.text(500, 300, "up the margin", degrees=90).text(200, 300, "aslant", degrees=30)
    lines = {line.text: line.polygon for line in layer(document.save(out)).lines}
    (x0, y0), (x1, y1), *_ = lines["up the margin"]
    assert abs(x1 - x0) < 1 and y0 - y1 > 60
    (x0, y0), (x1, y1), *_ = lines["aslant"]
    assert (y0 - y1) / (x1 - x0) == pytest.approx(0.577, abs=0.01)


def test_columns_are_kept_apart_and_broken_words_keep_their_hyphen(out: Path) -> None:
    document = WrittenPdf().page()
    document.text(72, 700, "left column of the docu-").text(350, 700, "right column, first")
    document.text(72, 682, "ment goes on here").text(350, 682, "right column, second")
    texts = {line.text for line in layer(document.save(out)).lines}
    assert {"left column of the docu-", "ment goes on here", "right column, first"} <= texts


def test_hangul_is_text(out: Path) -> None:
    document = WrittenPdf().page().lines(TEXT)
    document.text(72, 600, "한국어 문장과 English words", font=str(hangul_font()))
    assert "한국어 문장과 English words" in read(document.save(out)).text


def test_what_was_filled_into_a_form_is_text(out: Path) -> None:
    out.write_bytes(pdf_form("Whitlock"))
    assert read(out).text == "Whitlock"
    with open_pages(out, limits=LIMITS) as pages:
        before = pages.render(0).image
        taken = pages.text_layer(0)
        after = pages.render(0).image
    # Still drawn, once and in its place: the page's size is inherited from its parent.
    assert before.size == after.size == (taken.width, taken.height)
    assert (
        ImageChops.difference(before, after).convert("L").point(lambda v: v > 128).getbbox() is None
    )
    (left, top), _, (right, bottom), _ = taken.lines[0].polygon
    assert after.convert("L").crop((left, top, right, bottom)).getextrema()[0] < 60


def test_figures_beside_the_text_do_not_matter(out: Path) -> None:
    document = WrittenPdf().page().lines(TEXT).picture(picture(), 72, 300, 400, 300).shapes(150)
    assert layer(document.save(out)) is not None


# What is left aside


def picture() -> Image.Image:
    return Image.effect_noise((300, 200), 80)


def scan(lines: list[str]) -> Image.Image:
    return paper(lines, size=24).image


@pytest.mark.parametrize(
    "write",
    [
        lambda page: page,
        lambda page: page.lines(["3"]).picture(picture(), 72, 300, 200, 200),
        lambda page: page.picture(picture(), 0, 0, 595, 842).lines(TEXT),
        lambda page: page.picture(picture(), 0, 0, 595, 842).lines(TEXT, mode=INVISIBLE),
        lambda page: page.lines(TEXT, mode=INVISIBLE),
        lambda page: page.lines(["Annual report"]).shapes(80),
        lambda page: page.lines(TEXT).shapes(600),
        lambda page: page.lines(["%& )(*& #$%^ !!@ ??>< {}|: +_)("] * 2),
    ],
    ids=[
        *("blank", "page number", "scan", "scan read before", "invisible", "outlines"),
        *("drawn more than written", "signs"),
    ],
)
def test_text_that_is_not_all_there_is_to_see_is_left_aside(
    write: Callable[[WrittenPdf], WrittenPdf], out: Path
) -> None:
    assert layer(write(WrittenPdf().page()).save(out)) is None


def test_private_codes_are_left_aside() -> None:
    """A font that gives its letters codes of its own can't be read."""
    assert not _readable("\ufffd\ufffd\ufffd \ufffd\ufffd abc \ufffd\ufffd")
    assert not _readable("\ue012\ue013\ue014 \ue015\ue016\ue017\ue018\ue019 \ue01a\ue01b")
    assert _readable("\uf0b7 first point\r\n\uf0b7 second point\r\n\uf0b7 third point of the list")
    assert _readable("Contents\r\nChapter one . . . . . . . . . . . . . . . . . . . . . . . . 7")


def test_an_image_has_no_text_layer(tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    scan(TEXT).save(path)
    assert layer(path) is None


def test_a_page_that_is_missing_is_an_error_not_an_empty_page(tmp_path: Path) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(pdf(3).replace(b"3 0 R 4 0 R 5 0 R", b"3 0 R 9 0 R 5 0 R"))
    assert "Page 2" in read(path, 1).error


# Page by page


def test_each_page_is_taken_as_it_is_best_read(out: Path, real_engines: EngineCache) -> None:
    document = WrittenPdf().page().lines(TEXT)
    document.page().picture(scan(TEXT[:2]), 0, 0, 595, 842)
    document.page().lines(TEXT[1:]).save(out)
    for text_layer, engines in (
        ("use", ["text-layer", "rapidocr", "text-layer"]),
        ("ignore", ["rapidocr"] * 3),
    ):
        request = ReadRequest("auto", ("en",), "rapidocr", text_layer=text_layer)
        with open_pages(out, dpi=150, limits=LIMITS) as pages:
            outcomes = [read_page(pages, index, request, real_engines) for index in range(3)]
        assert [outcome.engine for outcome in outcomes] == engines
        texts = [outcome.text.split("\n") for outcome in outcomes]
        assert texts == [TEXT, TEXT[:2], TEXT[1:]]


def test_a_page_of_text_takes_a_hundredth_of_a_second(out: Path) -> None:
    document = WrittenPdf()
    for number in range(20):
        document.page().lines([f"{number} {' '.join(TEXT)[:90]}"] * 40, y=800, size=10)
    document.save(out)
    request = ReadRequest("auto", ("en",), "rapidocr")
    with open_pages(out, limits=LIMITS) as pages:
        started = time.process_time()
        for index in range(20):
            assert read_page(pages, index, request, NO_ENGINE).engine == "text-layer"
        assert (time.process_time() - started) / 20 < 0.05
