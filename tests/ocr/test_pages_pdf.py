"""Pages of PDFs, drawn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pypdfium2 as pdfium
import pytest

from ocr.pages import BadPage, Limits, open_pages
from ocr.samples import multi_page_pdf
from tests.ocr.files import LIMITS, first_page
from tests.ocr.pdfs import pdf, pdf_form

# Pages of PDFs


def test_a_pdf_is_drawn_at_the_resolution_asked_for(saved: Callable[[bytes], Path]) -> None:
    path = saved(pdf(box=(144, 72)))
    for dpi, size in ((72, (144, 72)), (150, (300, 150)), (200, (400, 200))):
        with open_pages(path, dpi=dpi, limits=LIMITS) as pages:
            page = pages.render(0)
        assert (page.image.size, page.dpi) == (size, dpi)
        assert page.image.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("box", [(14_400, 14_400), (14_400, 20), (1_000_000, 1), (3_000, 5)])
def test_a_huge_page_is_drawn_at_a_lower_resolution(
    box: tuple[int, int], saved: Callable[[bytes], Path]
) -> None:
    path = saved(pdf(box=box))
    with open_pages(path, limits=Limits(max_pixels=1_000_000)) as pages:
        page = pages.render(0)
    assert page.width * page.height <= 1_000_000
    assert max(page.image.size) <= 16_000
    assert page.dpi is not None
    assert page.dpi <= 200


def test_what_was_filled_into_a_form_is_drawn(saved: Callable[[bytes], Path]) -> None:
    assert first_page(saved(pdf_form("Whitlock"))).image.convert("L").getextrema()[0] < 60
    assert first_page(saved(pdf_form(""))).image.convert("L").getextrema()[0] > 60


def test_a_page_missing_from_a_pdf_is_a_bad_page(saved: Callable[[bytes], Path]) -> None:
    content = pdf(3).replace(b"3 0 R 4 0 R 5 0 R", b"3 0 R 9 0 R 5 0 R")
    with open_pages(saved(content), limits=LIMITS) as pages:
        assert len(pages) == 3
        pages.render(0)
        with pytest.raises(BadPage, match="Page 2"):
            pages.render(1)
        pages.render(2)


def test_threads_get_their_own_pages(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.pdf" for n in range(4)]
    for n, path in enumerate(paths):
        multi_page_pdf(path, 10 + n)

    def read(path: Path) -> list[bytes]:
        with open_pages(path, limits=LIMITS) as pages:
            return [pages.render(index).image.tobytes() for index in range(len(pages))]

    alone = [read(path) for path in paths]
    assert len({page for document in alone for page in document}) == 10 + 11 + 12 + 13
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, paths)) == alone
        with open_pages(paths[3], limits=LIMITS) as pages:
            shared = pool.map(lambda index: pages.render(index).image.tobytes(), range(13))
            assert list(shared) == alone[3]


def test_no_two_threads_are_inside_pdfium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock the pages above come out right most of the time, and crash the rest."""
    paths = [tmp_path / f"{n}.pdf" for n in range(4)]
    for path in paths:
        path.write_bytes(pdf(5))
    inside, overlaps = [], []
    render = pdfium.PdfPage.render

    def watched(page: pdfium.PdfPage, **options: object) -> pdfium.PdfBitmap:
        inside.append(page)
        time.sleep(0.002)
        overlaps.append(len(inside) > 1)
        inside.pop()
        return render(page, **options)

    monkeypatch.setattr(pdfium.PdfPage, "render", watched)

    def read(path: Path) -> None:
        with open_pages(path, limits=LIMITS) as pages:
            for index in range(len(pages)):
                pages.render(index)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, paths))
    assert overlaps == [False] * 20


MEMORY = """
import resource, sys
from ocr.pages import Limits, open_pages
peaks = []
with open_pages(sys.argv[1], limits=Limits()) as pages:
    for index in range(len(pages)):
        pages.render(index)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(len(peaks), peaks[49], peaks[-1], "numpy" in sys.modules)
"""


def test_memory_stays_flat_over_500_pages(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    multi_page_pdf(path, 500)
    command = [sys.executable, "-c", MEMORY, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    unit = 1024 if sys.platform == "linux" else 1
    after_50, after_500 = int(out[1]) * unit, int(out[2]) * unit
    assert out[0] == "500"
    # One page has 1.7 MB: a page kept, or an image of one, would make it 750 MB.
    assert after_500 - after_50 < 15_000_000
    assert out[3] == "False"  # the web servers rasterise too, and have no numpy
