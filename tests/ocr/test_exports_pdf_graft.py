"""The searchable PDF of a PDF, whose pages stay as they are."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from pikepdf import Name, Pdf
from PIL import Image

from tests.ocr import pdfs
from tests.ocr.pdf_reading import (
    check_places,
    difference,
    drawn,
    lines_of,
    result,
    text_of,
    words_of,
    written,
)
from tests.ocr.printed import Printed, line, printed, read_job

pytestmark = pytest.mark.django_db

TEXTS = ["Shelf mark K-1037 of the annex", "all Winter minimum", "Total due: 1,234.50"]


@pytest.fixture(scope="module")
def sheet() -> Printed:
    return printed(TEXTS)


class TestPdfs:
    """A PDF's pages stay as they are."""

    @pytest.mark.parametrize(
        ("turned", "found"),
        [(0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, 180), (90, 90), (180, 270)],
    )
    def test_turned_and_cropped(self, turned: int, found: int, tmp_path: Path) -> None:
        """`turned` by the PDF, then by what was found to be upright; the crop box is off centre."""
        page = printed(TEXTS)
        # What lies in the PDF, once shown with both turns, is the page.
        whole = (turned + found) % 360
        lying = page.image.rotate(whole, expand=True)
        content = scanned_pdf(lying, rotate=turned, margin=(30, 50))
        path = written(read_job(content, [result(page, rotation=found)], name="a.pdf"), tmp_path)
        check_places(words_of(path), page, least=0.75)
        shown = drawn(path, dpi=72)
        assert difference(shown, page.image.resize(shown.size)) < 0.03

    def test_scan_keeps_its_own_bytes(self, sheet: Printed, tmp_path: Path) -> None:
        content = scanned_pdf(sheet.image)
        path = written(read_job(content, [result(sheet)], name="a.pdf"), tmp_path)
        with Pdf.open(BytesIO(content)) as before, Pdf.open(path) as after:
            (old,), (new,) = (
                before.pages[0].get_images().values(),
                after.pages[0].get_images().values(),
            )
            assert old.read_raw_bytes() == new.read_raw_bytes()
        assert path.stat().st_size < len(content) + 15_000

    def test_pages_not_asked_for_are_left_out(self, sheet: Printed, tmp_path: Path) -> None:
        content = scanned_pdf(sheet.image, pages=4)
        pages = [result(sheet, number=2), {"number": 4, "error": "no"}]
        path = written(read_job(content, pages, name="a.pdf"), tmp_path)
        with Pdf.open(path) as pdf:
            assert len(pdf.pages) == 2
        assert lines_of(path, "-l", "1") == TEXTS

    def test_page_whose_own_text_was_taken_is_not_touched(self, tmp_path: Path) -> None:
        content = born_digital("Written, not drawn")
        lines = [line("Written, not drawn", (50, 50, 400, 90))]
        page = {"lines": lines, "width": 850, "height": 1100, "engine": "text-layer"}
        path = written(read_job(content, [page], name="a.pdf"), tmp_path)
        assert text_of(path).split() == ["Written,", "not", "drawn"]
        with Pdf.open(BytesIO(content)) as before, Pdf.open(path) as after:
            assert before.pages[0].Contents.read_bytes() == after.pages[0].Contents.read_bytes()

    def test_text_that_was_not_trusted_is_not_found_twice(self, tmp_path: Path) -> None:
        """The job was told to ignore the PDF's own text: only what was read is found."""
        content = born_digital("Wrjtten, nqt drawn")
        lines = [line("Written, not drawn", (50, 50, 400, 90))]
        page = {"lines": lines, "width": 850, "height": 1100}
        path = written(read_job(content, [page], name="a.pdf", dpi=100), tmp_path)
        assert text_of(path).split() == ["Written,", "not", "drawn"]

    def test_hidden_text_of_an_earlier_ocr_is_replaced(
        self, sheet: Printed, tmp_path: Path
    ) -> None:
        content = scanned_pdf(sheet.image, extra=b"BT 3 Tr /F 12 Tf 20 20 Td (Wrqng wqrds) Tj ET")
        path = written(read_job(content, [result(sheet)], name="a.pdf"), tmp_path)
        assert "Wrqng" not in text_of(path)
        assert lines_of(path) == TEXTS

    def test_hidden_text_in_a_form_that_holds_itself_is_replaced(
        self, sheet: Printed, tmp_path: Path
    ) -> None:
        content = scanned_pdf(sheet.image, extra=b"/Fm Do")
        with Pdf.open(BytesIO(content)) as pdf:
            form = pdf.make_stream(b"BT 3 Tr /F 12 Tf 20 20 Td (Wrqng wqrds) Tj ET")
            form.Type, form.Subtype, form.BBox = Name.XObject, Name.Form, [0, 0, 400, 300]
            form.Resources = _resources(form)
            pdf.pages[0].Resources.XObject.Fm = form
            changed = BytesIO()
            pdf.save(changed)
        path = written(read_job(changed.getvalue(), [result(sheet)], name="a.pdf"), tmp_path)
        assert lines_of(path) == TEXTS

    def test_stamp_on_a_scan_stays(self, sheet: Printed, tmp_path: Path) -> None:
        content = scanned_pdf(sheet.image, extra=b"BT /F 12 Tf 20 180 Td (No. 7) Tj ET")
        path = written(read_job(content, [result(sheet)], name="a.pdf"), tmp_path)
        with Pdf.open(path) as pdf:
            assert [image.Width for image in pdf.pages[0].get_images().values()] == [700]
        assert "No. 7" in text_of(path) and TEXTS[0] in text_of(path)

    def test_graphics_state_left_open_does_no_harm(self, sheet: Printed, tmp_path: Path) -> None:
        content = scanned_pdf(sheet.image, extra=b"q q 0.1 0 0 0.1 50 50 cm")
        path = written(read_job(content, [result(sheet)], name="a.pdf"), tmp_path)
        check_places(words_of(path), sheet, least=0.75)

    @pytest.mark.parametrize(
        "content",
        [
            pdfs.pdf_encrypted(user=b"", owner=b"secret"),
            pdfs.pdf_form("filled in"),
            pdfs.pdf(extra=b"/Prev 99999"),
        ],
        ids=["encrypted", "form", "broken"],
    )
    def test_odd_pdf(self, content: bytes, tmp_path: Path) -> None:
        lines = [line("found here", (50, 50, 150, 70))]
        page = {"lines": lines, "width": 400, "height": 200}
        path = written(read_job(content, [page], name="a.pdf"), tmp_path)
        assert "found here" in text_of(path)
        with Pdf.open(path) as pdf:
            assert not pdf.is_encrypted

    def test_pdf_that_qpdf_can_not_open_is_drawn(self, tmp_path: Path) -> None:
        content = pdfs.pdf(box=(400, 200)).replace(b"/Type/Pages/Count 1", b"/Type/Pages/Count 1 ")
        broken = content.replace(b"/Kids[3 0 R]", b"/Kids[3 0 R 3 0 R]")
        lines = [line("found here", (50, 50, 150, 70))]
        page = {"lines": lines, "width": 400, "height": 200}
        path = written(read_job(broken, [page], name="a.pdf"), tmp_path)
        assert text_of(path).split() == ["found", "here"]


def scanned_pdf(
    image: Image.Image,
    *,
    rotate: int = 0,
    margin: tuple[int, int] = (0, 0),
    pages: int = 1,
    extra: bytes = b"",
) -> bytes:
    """Pages that show `image` at 144 dpi inside a crop box, which begins at `margin`."""
    width, height = image.width / 2, image.height / 2
    target, jpeg = BytesIO(), BytesIO()
    image.save(jpeg, "JPEG", quality=90)
    with Pdf.new() as pdf:
        for _ in range(pages):
            page = pdf.add_blank_page(page_size=(width + 80, height + 120))
            page.CropBox = [*margin, margin[0] + width, margin[1] + height]
            page.Rotate = rotate
            picture = pdf.make_stream(jpeg.getvalue())
            picture.update(
                pikepdf.Dictionary(
                    Type=Name.XObject,
                    Subtype=Name.Image,
                    Width=image.width,
                    Height=image.height,
                    ColorSpace=Name.DeviceRGB,
                    BitsPerComponent=8,
                    Filter=Name.DCTDecode,
                )
            )
            page.Resources = _resources(picture)
            page.Contents = pdf.make_stream(
                b"q %f 0 0 %f %d %d cm /Im Do Q %s" % (width, height, *margin, extra)
            )
        pdf.save(target)
    return target.getvalue()


def born_digital(text: str) -> bytes:
    target = BytesIO()
    with Pdf.new() as pdf:
        page = pdf.add_blank_page(page_size=(612, 792))
        page.Resources = _resources()
        page.Contents = pdf.make_stream(b"BT /F 24 Tf 40 700 Td (%s) Tj ET" % text.encode())
        pdf.save(target)
    return target.getvalue()


def _resources(picture: pikepdf.Stream | None = None) -> pikepdf.Dictionary:
    font = pikepdf.Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
    resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F=font))
    if picture is not None:
        resources.XObject = pikepdf.Dictionary(Im=picture)
    return resources
