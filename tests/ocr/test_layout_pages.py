"""Whole pages through the real engine: drawn magazine pages, a receipt, an invoice."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ocr.engines.rapidocr import RapidOcrEngine
from ocr.layout import Layout, lay_out, page_text
from ocr.sample_columns import STYLES, columns_page
from ocr.samples import Sample, render_samples
from ocr.scoring import cer

# What an ordered reading of a page with columns may miss at most.
MOST_ERRORS = 0.06


@pytest.fixture(scope="module")
def engine() -> RapidOcrEngine:
    return RapidOcrEngine(threads=1)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    return {one.name: one for one in render_samples(tmp_path_factory.mktemp("samples"))}


def laid_out(engine: RapidOcrEngine, image: Image.Image) -> Layout:
    page = np.asarray(image.convert("RGB"))
    return lay_out(engine.read(page, languages=("en",)).lines, *image.size)


@pytest.mark.parametrize("style", ["two-skewed", "three-justified", "two-over-three"])
def test_magazine_pages_are_read_in_order(engine: RapidOcrEngine, style: str) -> None:
    page = columns_page(STYLES[style], 3)
    layout = laid_out(engine, page.image)
    assert cer(page.truth, page_text(layout)) < MOST_ERRORS
    assert any(block.kind == "heading" for block in layout.blocks)
    assert not any(block.kind == "table" for block in layout.blocks)


@pytest.mark.parametrize(("name", "columns"), [("receipt", 2), ("invoice", 5)])
def test_rows_of_a_receipt_and_an_invoice_are_a_table(
    engine: RapidOcrEngine, samples: dict[str, Sample], name: str, columns: int
) -> None:
    with Image.open(samples[name].path) as image:
        layout = laid_out(engine, image)
    assert cer(samples[name].truth[0], page_text(layout)) < 0.02
    tables = [block for block in layout.blocks if block.kind == "table"]
    assert columns in {len(table.rows[0]) for table in tables}


def test_a_page_is_drawn_alike_each_time_and_each_seed_another() -> None:
    first, again, other = (columns_page(STYLES["one-over-two"], seed) for seed in (1, 1, 2))
    assert (first.image.tobytes(), first.truth) == (again.image.tobytes(), again.truth)
    assert first.truth != other.truth


@pytest.mark.parametrize("style", STYLES)
def test_every_style_fills_its_page(style: str) -> None:
    page = columns_page(STYLES[style])
    assert page.image.size == (1240, 1754)
    assert len(page.truth.split()) > 300
    assert all(line.strip() for line in page.truth.splitlines())
