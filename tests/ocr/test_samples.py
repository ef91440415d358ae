from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from ocr import sample_texts, samples
from ocr.pages import Limits, inspect, open_pages
from ocr.samples import Sample, korean_font, multi_page_pdf, render_samples


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    folder = tmp_path_factory.mktemp("samples") / "of" / "ours"
    return {sample.name: sample for sample in render_samples(folder)}


def test_samples_are_whole_documents_with_a_truth_for_each_page(drawn: dict[str, Sample]) -> None:
    assert {"english-page", "receipt", "scanned-agreement", "invoice"} <= drawn.keys()
    for sample in drawn.values():
        assert inspect(sample.path, limits=Limits()).pages == len(sample.truth)
        assert all(len(page.split()) > 30 for page in sample.truth)
    assert len(drawn["scanned-agreement"].truth) == 2


def test_truth_follows_the_page_row_by_row(drawn: dict[str, Sample]) -> None:
    receipt = drawn["receipt"].truth[0].splitlines()
    assert receipt[0] == "MILL STREET BAKERY"
    assert "2 Sourdough loaf 9.60" in receipt
    invoice = drawn["invoice"].truth[0].splitlines()
    assert "2 Maps scanned, colour, large format 24 6.50 156.00" in invoice
    page = " ".join(drawn["english-page"].truth[0].split())
    for _, paragraphs in sample_texts.PAGE_SECTIONS:
        assert all(paragraph in page for paragraph in paragraphs)


def test_nothing_is_drawn_outside_the_margins(drawn: dict[str, Sample]) -> None:
    for sample in drawn.values():
        with open_pages(sample.path, dpi=150, limits=Limits()) as pages:
            for index in range(len(pages)):
                image = pages.render(index).image.convert("L")
                edge = image.height // 40
                inked = image.point(lambda value: 255 * (value < 128)).getbbox()
                assert inked is not None
                assert inked[0] > edge and inked[1] > edge
                assert inked[2] < image.width - edge and inked[3] < image.height - edge


def test_drawing_again_writes_nothing(drawn: dict[str, Sample]) -> None:
    folder = drawn["receipt"].path.parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "receipt.png").write_bytes(b"spoilt")
    assert {sample.name: sample for sample in render_samples(folder)} == drawn
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {path for path in after if after[path] != before[path]} == {folder / "receipt.png"}
    assert inspect(folder / "receipt.png", limits=Limits()).pages == 1


def test_latin_pages_need_no_font_of_the_system(
    drawn: dict[str, Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(samples, "_KOREAN_FONTS", ("/no/font.ttf",))
    korean_font.cache_clear()
    try:
        assert korean_font() is None
        bare = {sample.name: sample for sample in render_samples(tmp_path)}
    finally:
        korean_font.cache_clear()
    assert bare.keys() == drawn.keys() - {"korean-page"}
    for sample in bare.values():
        assert sample.language == "en"
        assert sample.path.read_bytes() == drawn[sample.name].path.read_bytes()
    assert "fonts-nanum" in samples.KOREAN_FONT_MISSING


def test_latin_texts_have_no_letter_that_the_built_in_font_lacks() -> None:
    latin = {
        name: value
        for name, value in vars(sample_texts).items()
        if name.isupper() and not name.startswith("KOREAN")
    }
    assert len(latin) > 10
    assert str(latin).isascii()


@pytest.mark.skipif(korean_font() is None, reason=samples.KOREAN_FONT_MISSING)
def test_the_korean_page_shows_its_hangul(drawn: dict[str, Sample]) -> None:
    sample = drawn["korean-page"]
    assert sample.language == "ko"
    assert sample.truth[0].startswith("바닷길 시립도서관")
    shapes = set()
    for letter in "가힣뷁글":
        font = samples.Sheet((40, 40), margin=4, mode="L", ink=0, font=korean_font())
        font.line(letter, 24)
        shapes.add(font.image.tobytes())
    assert len(shapes) == 4  # a font without Hangul draws one box for all


def test_sums_add_up() -> None:
    """A sample that a customer reads, and an extractor checks, must not be wrong in itself."""

    def total(rows: tuple) -> Decimal:
        return sum((Decimal(row[-1].replace(",", "")) for row in rows), Decimal())

    subtotal, discount = sample_texts.RECEIPT_SUMS
    assert total(sample_texts.RECEIPT_ITEMS) == Decimal(subtotal[1])
    assert total((subtotal, discount)) == Decimal(sample_texts.RECEIPT_TOTAL[0][1])
    cash, change = (Decimal(amount) for _, amount in sample_texts.RECEIPT_PAID)
    assert cash - change == Decimal(sample_texts.RECEIPT_TOTAL[0][1])
    lines = sample_texts.INVOICE_ROWS[1:]
    for _, _, quantity, price, amount in lines:
        assert Decimal(quantity.replace(",", "")) * Decimal(price) == Decimal(amount)
    net, tax, due = (total((row,)) for row in sample_texts.INVOICE_SUMS)
    assert (net, tax, due) == (total(lines), net / 5, net + tax)


def test_pages_of_a_long_pdf_differ(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    truth = multi_page_pdf(path, 20)
    assert len(set(truth)) == 20
    assert truth[6].startswith("Page 7 of 20\n")
    with open_pages(path, limits=Limits()) as pages:
        shown = {pages.render(index).image.tobytes() for index in range(len(pages))}
    assert len(shown) == 20
    content = path.read_bytes()
    assert multi_page_pdf(path, 20) == truth
    assert path.read_bytes() == content


def test_images_know_their_resolution(drawn: dict[str, Sample]) -> None:
    with Image.open(drawn["invoice"].path) as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
