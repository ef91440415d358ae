"""The searchable PDF of an image: its text is found where the words stand."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest
from pikepdf import Name, Pdf
from PIL import Image

from ocr.exports.pdf_images import resolution
from tests.environment import ROOT
from tests.ocr.pdf_reading import (
    approved,
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


def test_making_pdfs_takes_no_array_library() -> None:
    """The site makes them too, and its image holds none; the rest is loaded when asked for."""
    program = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
import django
django.setup()
import ocr.exports
print(sorted({"pikepdf", "lxml", "img2pdf", "fontTools", "numpy"} & sys.modules.keys()))
import ocr.exports.pdf
print(sorted({"pikepdf", "numpy", "cv2"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["[]", "['pikepdf']"]


class TestImages:
    def test_words_lie_on_the_words(self, sheet: Printed, tmp_path: Path) -> None:
        path = written(read_job(sheet.bytes(), [result(sheet)]), tmp_path)
        assert lines_of(path) == TEXTS
        check_places(words_of(path), sheet, least=0.75)
        assert approved(path)
        with Pdf.open(path) as pdf:
            assert [float(side) for side in pdf.pages[0].mediabox] == pytest.approx(
                [0, 0, 336, 192]
            )

    def test_places_that_the_engine_tells_are_kept(self, tmp_path: Path) -> None:
        """Spans put the words where no estimate would."""
        spans = [[0.0, 0.1], [0.8, 1.0]]
        lines = [line("one two", (100, 100, 500, 140), spans=spans)]
        path = written(
            read_job(printed(["x"]).bytes(), [{"lines": lines, "width": 700, "height": 400}]),
            tmp_path,
        )
        (_one, first), (_two, second) = words_of(path)
        assert (first[0] * 700, first[2] * 700) == pytest.approx((100, 140), abs=1)
        assert (second[0] * 700, second[2] * 700) == pytest.approx((420, 500), abs=1)

    @pytest.mark.parametrize(
        "text",
        [
            "대한민국의 모든 국민은 법 앞에 평등하다",
            "發票番號 合計金額 一千二百元",
            "Straße naïve Ελλάδα Привет",
            "emoji 😀 and 𐍈 beyond",
        ],
    )
    def test_any_script_comes_back(self, text: str, tmp_path: Path) -> None:
        lines = [line(text, (20, 20, 600, 60))]
        path = written(
            read_job(printed(["x"]).bytes(), [{"lines": lines, "width": 700, "height": 400}]),
            tmp_path,
        )
        assert text_of(path).strip() == text
        assert approved(path)

    def test_slanted_line(self, tmp_path: Path) -> None:
        corners = [[50, 50], [450, 70], [448, 110], [48, 90]]
        lines = [{"text": "uphill downhill", "confidence": 0.9, "polygon": corners}]
        path = written(
            read_job(printed(["x"]).bytes(), [{"lines": lines, "width": 700, "height": 400}]),
            tmp_path,
        )
        assert text_of(path).split() == ["uphill", "downhill"]
        (_, first), (_, second) = words_of(path)
        assert first[1] < second[1] and first[0] < second[0]
        assert 440 < second[2] * 700 < 455 and 100 < second[3] * 400 < 115

    def test_line_that_runs_down(self, tmp_path: Path) -> None:
        lines = [line("Winter journal", (600, 50, 640, 350))]
        path = written(
            read_job(printed(["x"]).bytes(), [{"lines": lines, "width": 700, "height": 400}]),
            tmp_path,
        )
        words = words_of(path)
        assert [word for word, _ in words] == ["Winter", "journal"]
        for _word, box in words:
            assert box[0] * 700 > 595 and box[2] * 700 < 645
        assert words[0][1][3] <= words[1][1][1] + 0.01

    def test_jpeg_goes_in_byte_for_byte(self, sheet: Printed, tmp_path: Path) -> None:
        content = sheet.bytes("JPEG", quality=60, dpi=(150, 150))
        path = written(read_job(content, [result(sheet)]), tmp_path)
        with Pdf.open(path) as pdf:
            (image,) = pdf.pages[0].get_images().values()
            assert image.Filter in (Name.DCTDecode, [Name.DCTDecode])
            assert image.read_raw_bytes() == content
        assert path.stat().st_size < len(content) + 15_000

    def test_scan_in_two_colours_is_fax_coded(self, tmp_path: Path) -> None:
        page = printed(TEXTS)
        first, second = (page.image.convert("1"), page.image.transpose(0).convert("1"))
        target = BytesIO()
        first.save(target, "TIFF", save_all=True, append_images=[second], compression=None)
        results = [result(page), result(page, lines=[])]
        path = written(read_job(target.getvalue(), results), tmp_path)
        with Pdf.open(path) as pdf:
            for sheet, scan in zip(pdf.pages, (first, second), strict=True):
                (image,) = sheet.get_images().values()
                assert "CCITTFaxDecode" in str(image.Filter)
                assert pikepdf.PdfImage(image).as_pil_image().tobytes() == scan.tobytes()
        assert path.stat().st_size < len(target.getvalue())
        assert approved(path)

    @pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
    def test_exif_turns_the_page(self, orientation: int, tmp_path: Path) -> None:
        """What is shown, and where the text is, is the upright page; 2 is a mirrored one."""
        page = printed(TEXTS)
        stored = {
            1: lambda image: image,
            2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
            6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
            8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
        }[orientation](page.image)
        exif = Image.Exif()
        exif[274] = orientation
        content = Printed(stored).bytes("JPEG", exif=exif, quality=90)
        path = written(read_job(content, [result(page)]), tmp_path)
        check_places(words_of(path), page, least=0.7)
        shown = drawn(path, dpi=150)
        assert shown.size == page.image.size
        assert difference(shown, page.image) < 0.02

    @pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "I;16", "LA"])
    def test_any_kind_of_pixels(self, mode: str, tmp_path: Path) -> None:
        page = printed(TEXTS)
        if mode == "I;16":
            image = page.image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16")
        else:
            image = page.image.convert(mode)
        form = "TIFF" if mode == "CMYK" else "PNG"
        path = written(read_job(Printed(image).bytes(form), [result(page)]), tmp_path)
        check_places(words_of(path), page, least=0.7)
        assert difference(drawn(path, dpi=150), page.image) < 0.02
        assert approved(path)

    def test_page_found_to_be_turned(self, tmp_path: Path) -> None:
        """The engine's places are those of the upright page; the file lies on its side."""
        page = printed(TEXTS)
        lying = Printed(page.image.transpose(Image.Transpose.ROTATE_90))
        path = written(read_job(lying.bytes(), [result(page, rotation=90)]), tmp_path)
        check_places(words_of(path), page, least=0.75)
        assert difference(drawn(path, dpi=150), page.image) < 0.02

    def test_page_that_failed_is_a_picture(self, sheet: Printed, tmp_path: Path) -> None:
        target = BytesIO()
        sheet.image.save(target, "TIFF", save_all=True, append_images=[sheet.image])
        pages = [{"error": "engine fell over"}, result(sheet)]
        path = written(read_job(target.getvalue(), pages), tmp_path)
        assert text_of(path, "-l", "1").strip() == ""
        assert text_of(path, "-f", "2").split("\n")[0] == TEXTS[0]
        assert difference(drawn(path, 1, 200), sheet.image.resize(drawn(path, 1, 200).size)) < 0.03

    @pytest.mark.parametrize(
        ("pixels", "dpi", "expected"),
        [
            ((1654, 2339), 200, 200),
            ((4000, 3000), 72, 3000 / 8.27),  # a photograph
            ((4000, 3000), 300, 300),
            ((800, 600), None, 200),
        ],
    )
    def test_resolution(self, pixels: tuple[int, int], dpi: int | None, expected: float) -> None:
        assert resolution(*pixels, dpi) == pytest.approx(expected, rel=0.01)
