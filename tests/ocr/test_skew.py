"""How far a page leans, and where its boxes lie once it was put level."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ocr.engines.skew import leaning, levelled, text_skew
from tests.ocr.paper import ENGLISH, KOREAN, paper


@pytest.mark.parametrize("lines", [ENGLISH * 4, KOREAN * 3], ids=["english", "korean"])
@pytest.mark.parametrize("degrees", [-11, -4, -1, -0.5, 0, 0.5, 2, 7])
def test_the_lean_is_found_to_a_fraction_of_a_degree(lines: list[str], degrees: float) -> None:
    page = paper(lines).image.convert("L")
    leans = page.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor=255)
    assert text_skew(leans) == pytest.approx(degrees, abs=0.2)


def test_a_page_without_lines_does_not_lean() -> None:
    assert text_skew(Image.new("L", (400, 500), 250)) == 0
    assert text_skew(Image.new("L", (3, 2), 250)) == 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(128, 90, (500, 400)).clip(0, 255)
        assert text_skew(Image.fromarray(noise.astype(np.uint8))) == 0


def test_a_page_on_its_side_is_not_taken_for_one_that_leans() -> None:
    assert abs(text_skew(paper(ENGLISH * 4).turned(90).image.convert("L"))) <= 12


@pytest.mark.parametrize("skew", [-9.0, -2.0, 3.5, 11.0])
def test_boxes_go_back_to_where_the_ink_is(skew: float) -> None:
    page = Image.new("L", (400, 300), 255)
    ImageDraw.Draw(page).ellipse([90, 60, 110, 80], fill=0)
    level = levelled(page, skew)
    left, top, right, bottom = level.point(lambda value: 255 - value).getbbox()
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    back = leaning(corners, skew, level.size, page.size)
    middle = [sum(point[axis] for point in back) / 4 for axis in (0, 1)]
    assert middle == pytest.approx([100, 70], abs=1.5)


def test_nothing_is_left_beyond_the_edge_of_the_page() -> None:
    page = Image.new("L", (400, 300), 255)
    level = levelled(page, 8)
    box = ((0, 0), (level.width, 0), (level.width, level.height), (0, level.height))
    for x, y in leaning(box, 8, level.size, page.size):
        assert 0 <= x <= 400 and 0 <= y <= 300
