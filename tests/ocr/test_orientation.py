"""Pages that lie on their side or stand on their head come out upright; no other is touched."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from mlops.engines import EngineCache, EngineSpec
from ocr.engines.base import Line
from ocr.orientation import text_rotation, turned_lines
from ocr.page_image import PageImage, page_image
from ocr.reader import PageOutcome, ReadRequest, read_image
from tests.environment import DATA
from tests.ocr.compass import UPRIGHT, shaded
from tests.ocr.paper import ENGLISH, KOREAN, error_rate, paper

TURNS = (0, 90, 180, 270)


def compass(engine: str = "CompassEngine", **options: object) -> EngineCache:
    return EngineCache({"eye": EngineSpec("eye", f"tests.ocr.compass.{engine}", options)})


def looked(page: PageImage, engines: EngineCache, *, rotate: bool = True) -> PageOutcome:
    return read_image(page, ReadRequest("eye", ("en",), "eye", rotate=rotate), engines)


# When a page is looked at again, and when it is turned


@pytest.mark.parametrize("turned", TURNS)
def test_a_turned_page_is_read_upright(turned: int) -> None:
    outcome = looked(shaded().turned(turned), compass())
    assert outcome.rotation == (360 - turned) % 360
    assert (outcome.width, outcome.height) == (300, 420)
    assert {line["text"] for line in outcome.lines} == {UPRIGHT[0]}
    assert outcome.mean_confidence == UPRIGHT[1]
    assert outcome.note == (
        f"The page was turned by {outcome.rotation} degrees to stand upright." if turned else ""
    )


def test_an_upright_page_is_read_once() -> None:
    engines = compass()
    looked(shaded(), engines)
    assert engines.get("eye").sizes == [(300, 420)]


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_the_second_look_is_at_a_part_of_the_page(turned: int) -> None:
    engines = compass()
    looked(shaded().turned(turned), engines)
    first, second, last = engines.get("eye").sizes
    assert second[0] * second[1] < 0.8 * first[0] * first[1]
    assert last == (300, 420)


def test_without_leave_to_rotate_a_page_stays_as_it_is() -> None:
    engines = compass()
    outcome = looked(shaded().turned(180), engines, rotate=False)
    assert (outcome.rotation, outcome.note) == (0, "")
    assert outcome.lines[0]["text"] != UPRIGHT[0]
    assert len(engines.get("eye").sizes) == 1


def test_a_page_that_reads_badly_either_way_stays_as_it_is() -> None:
    engines = compass(unsure=0.35)
    assert looked(shaded(), engines).rotation == 0
    assert len(engines.get("eye").sizes) == 2  # one band, the other way up


def test_poor_print_raises_no_doubt_in_tesseract() -> None:
    engines = compass("TesseractLike", unsure=0.3)
    assert looked(shaded(), engines).rotation == 0
    assert len(engines.get("eye").sizes) == 1
    assert looked(shaded().turned(180), engines).rotation == 180


def test_columns_of_vertical_writing_are_not_laid_on_their_side() -> None:
    assert looked(shaded(), compass(writes_down=True)).rotation == 0


@pytest.mark.parametrize("turned", TURNS)
def test_a_page_on_which_nothing_is_seen_is_tried_in_all_directions(turned: int) -> None:
    assert looked(shaded().turned(turned), compass(blind=True)).rotation == (360 - turned) % 360


def test_an_empty_page_is_not_tried_in_all_directions() -> None:
    engines = compass(blind=True)
    blank = PageImage(Image.new("RGB", (300, 420), "white"))
    engines.get("eye").read(shaded().turned(90).array(), languages=("en",))
    looked(blank, engines)
    assert len(engines.get("eye").sizes) == 2


# Geometry


@pytest.mark.parametrize("degrees", TURNS)
def test_lines_turn_with_their_page(degrees: int) -> None:
    """A box stays on the ink, and its first corner at the text's own top left."""
    page = Image.new("RGB", (80, 50), "white")
    page.paste((0, 0, 0), (10, 20, 40, 30))
    page.putpixel((10, 20), (255, 0, 0))
    line = Line("ink", 1.0, ((10, 20), (40, 20), (40, 30), (10, 30)))
    turned = PageImage(page).turned(degrees).image
    ((x0, y0), *_), polygon = (turned_lines([line], degrees, 80, 50)[0].polygon,) * 2
    xs, ys = zip(*polygon, strict=True)
    assert turned.crop((min(xs), min(ys), max(xs), max(ys))).getextrema()[1] == (0, 0)
    red = next(
        (x, y)
        for x in range(turned.width)
        for y in range(turned.height)
        if turned.getpixel((x, y)) == (255, 0, 0)
    )
    assert abs(red[0] + 0.5 - x0) <= 0.5 and abs(red[1] + 0.5 - y0) <= 0.5


@pytest.mark.parametrize("turned", TURNS)
def test_the_direction_of_text_is_that_of_most_of_it(turned: int) -> None:
    level = Line("a long line of text", 1.0, ((0, 0), (90, 1), (90, 11), (0, 10)))
    lines = turned_lines([level] * 4, turned, 100, 100)
    aside = Line("note", 1.0, ((0, 0), (0, 9), (-5, 9), (-5, 0)))
    assert text_rotation([*lines, aside]) == (360 - turned) % 360
    assert text_rotation([]) == 0


# Real engines


@pytest.mark.parametrize("engine", ["rapidocr", "tesseract"])
@pytest.mark.parametrize("turned", TURNS)
def test_english_in_any_direction(real_engines: EngineCache, engine: str, turned: int) -> None:
    request = ReadRequest(engine, ("en",), "rapidocr")
    outcome = read_image(paper(ENGLISH).turned(turned), request, real_engines)
    assert outcome.rotation == (360 - turned) % 360
    assert error_rate(outcome.text, ENGLISH) < 0.01


@pytest.mark.parametrize("language", ["ko", "auto"])
@pytest.mark.parametrize("turned", [90, 180])
def test_korean_in_any_direction(real_engines: EngineCache, language: str, turned: int) -> None:
    request = ReadRequest("auto", (language,), "rapidocr")
    outcome = read_image(paper(KOREAN).turned(turned), request, real_engines)
    assert (outcome.engine, outcome.rotation) == ("tesseract", 360 - turned)
    assert error_rate(outcome.text, KOREAN) < 0.02


def test_one_word_is_enough(real_engines: EngineCache) -> None:
    request = ReadRequest("rapidocr", ("en",), "rapidocr")
    for turned in TURNS:
        outcome = read_image(paper(["Page 17"]).turned(turned), request, real_engines)
        assert (outcome.text, outcome.rotation) == ("Page 17", (360 - turned) % 360)


@pytest.mark.parametrize("degrees", [-8, -3, 1, 3])
@pytest.mark.parametrize(
    ("engine", "lines"),
    [
        ("rapidocr", ENGLISH),
        ("tesseract", ENGLISH),
        ("tesseract", KOREAN),
    ],
)
def test_a_leaning_page_is_read_and_its_boxes_lean_with_it(
    real_engines: EngineCache, engine: str, lines: list[str], degrees: float
) -> None:
    language = "ko" if lines is KOREAN else "en"
    level = paper(lines)
    leans = level.image.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor="white")
    request = ReadRequest(engine, (language,), engine)
    outcome = read_image(PageImage(leans), request, real_engines)
    assert error_rate(outcome.text, lines) < 0.02
    assert outcome.rotation == 0
    assert abs(outcome.skew - degrees) < 0.7
    ink = leans.convert("L").point(lambda value: 255 * (value < 128))
    for line in outcome.lines:
        # Its corners lie in white, and the box holds the line's ink.
        (x0, y0), (_, y1), (x2, y2), (x3, y3) = line["polygon"]
        middle = ink.crop((round(x0), round(min(y0, y1)), round(x2), round(max(y2, y3))))
        assert middle.getextrema()[1] == 255
        assert 15 < ((x3 - x0) ** 2 + (y3 - y0) ** 2) ** 0.5 < 75


@pytest.mark.data
@pytest.mark.parametrize("name", ["phototest-rotated-180.png", "phototest-rotated-L.png"])
@pytest.mark.parametrize("engine", ["rapidocr", "tesseract"])
def test_real_turned_pages(real_engines: EngineCache, engine: str, name: str) -> None:
    with Image.open(DATA / "pages" / name) as image:
        page = page_image(image)
    truth = (DATA / "pages" / "phototest.txt").read_text().split("\n")
    outcome = read_image(page, ReadRequest(engine, ("en",), engine), real_engines)
    assert outcome.rotation in (90, 180, 270)
    assert error_rate(outcome.text, truth) < 0.01


@pytest.mark.data
def test_no_upright_receipt_is_even_looked_at_twice(real_engines: EngineCache) -> None:
    receipts = DATA / "receipts"
    for path in sorted(receipts.glob("*.jpg"))[:: 1 if os.environ.get("CI") else 12]:
        with Image.open(path) as image:
            page = page_image(image)
        outcome = read_image(page, ReadRequest("auto", ("auto",), "rapidocr"), real_engines)
        assert (outcome.rotation, outcome.note) == (0, ""), path.name
