from __future__ import annotations

import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image, ImageDraw

from ocr.pages import (
    BadDocument,
    BadPage,
    Limits,
    PageImage,
    inspect,
    open_pages,
    page_jpeg,
    page_png,
)
from ocr.samples import multi_page_pdf
from tests.ocr.pdfs import pdf, pdf_encrypted, pdf_form

LIMITS = Limits()
TRANSPOSE = Image.Transpose

# What a camera's sensor saw of an upright scene, by the orientation that it noted.
SENSOR = {
    1: None,
    2: TRANSPOSE.FLIP_LEFT_RIGHT,
    3: TRANSPOSE.ROTATE_180,
    4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE,
    6: TRANSPOSE.ROTATE_90,
    7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_270,
}


def photo(width: int = 320, height: int = 200) -> Image.Image:
    """Noise, so that no format can store it in few bytes."""
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    target = BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def refused(content: bytes, limits: Limits = LIMITS) -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        inspect(BytesIO(content), limits=limits)
    return caught.value


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    def save(content: bytes) -> Path:
        path = tmp_path / "document"
        path.write_bytes(content)
        return path

    return save


def first_page(path: Path) -> PageImage:
    with open_pages(path, limits=LIMITS) as pages:
        return pages.render(0)


# What a document is, by its content


@pytest.mark.parametrize(
    ("format", "media_type", "extension"),
    [
        ("PNG", "image/png", ".png"),
        ("JPEG", "image/jpeg", ".jpg"),
        ("TIFF", "image/tiff", ".tif"),
        ("WEBP", "image/webp", ".webp"),
        ("BMP", "image/bmp", ".bmp"),
        ("PDF", "application/pdf", ".pdf"),
    ],
)
def test_type_is_read_from_the_content(
    format: str, media_type: str, extension: str, tmp_path: Path
) -> None:
    path = tmp_path / "holiday.txt"
    path.write_bytes(encoded(photo(), format))
    info = inspect(path, limits=LIMITS)
    assert (info.media_type, info.extension, info.pages) == (media_type, extension, 1)
    assert first_page(path).image.mode == "RGB"


def test_an_open_file_is_judged_from_its_start_and_left_open_there() -> None:
    for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "PDF"):
        stream = BytesIO(encoded(photo(), format))
        stream.seek(50)
        assert inspect(stream, limits=LIMITS).pages == 1
        assert stream.tell() == 0
        assert not stream.closed


def test_pages_are_counted() -> None:
    frames = [photo(40 + n, 30).convert("1") for n in range(5)]
    tiff = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="group4")
    assert inspect(BytesIO(tiff), limits=LIMITS).pages == 5
    assert inspect(BytesIO(pdf(3)), limits=LIMITS).pages == 3


# What is refused, and as what


@pytest.mark.parametrize(
    "content",
    [
        b"This is a text file, renamed.",
        b"BM and nothing of a bitmap: a word can start with these letters.",
        encoded(photo(), "GIF"),
        b"PK\x03\x04 an office document",
        bytes(range(256)) * 8,
    ],
)
def test_other_types_are_refused_with_what_is_accepted(content: bytes) -> None:
    error = refused(content)
    assert (error.code, error.status) == ("unsupported_type", 400)
    assert "PNG, JPEG, TIFF, WebP, BMP or PDF" in error.message


def test_an_empty_file_is_refused() -> None:
    assert refused(b"").code == "empty_file"


def test_too_many_bytes_are_refused() -> None:
    error = refused(encoded(photo(), "PNG"), Limits(max_bytes=1000))
    assert (error.code, error.status) == ("file_too_large", 413)
    assert "1,000" in error.message


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
        ("BMP", {}),
    ],
)
def test_a_file_cut_short_is_refused(format: str, options: dict, share: float) -> None:
    whole = encoded(photo(), format, **options)
    assert inspect(BytesIO(whole), limits=LIMITS).pages == 1
    assert refused(whole[: int(len(whole) * share)]).code == "damaged_file"


def test_a_tiff_whose_last_page_is_cut_short_is_refused() -> None:
    frames = [photo()] * 3
    whole = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert refused(whole[:-50]).code == "damaged_file"


def test_a_pdf_that_is_none_is_refused() -> None:
    assert refused(b"%PDF-1.7\n" + bytes(500)).code == "damaged_file"


def test_a_pdf_that_needs_a_password_is_refused() -> None:
    error = refused(pdf_encrypted(user=b"sesame", owner=b"open"))
    assert error.code == "encrypted_pdf"
    assert "password" in error.message


def test_a_pdf_that_only_its_owner_locked_is_read() -> None:
    assert inspect(BytesIO(pdf_encrypted(user=b"", owner=b"open")), limits=LIMITS).pages == 1


def test_a_pdf_without_pages_is_told_from_the_fault_of_the_one_before() -> None:
    refused(pdf_encrypted(user=b"sesame", owner=b"open"))
    assert refused(pdf(0)).code == "no_pages"


def test_a_pdf_of_5000_pages_is_counted_and_held_to_the_limit() -> None:
    content = pdf(5000)
    assert inspect(BytesIO(content), limits=Limits(max_pages=5000)).pages == 5000
    error = refused(content, Limits(max_pages=4999))
    assert error.code == "too_many_pages"
    assert "4,999" in error.message


def test_a_tiff_is_held_to_the_limit_on_pages(saved: Callable[[bytes], Path]) -> None:
    frame = Image.new("1", (8, 8))
    content = encoded(frame, "TIFF", save_all=True, append_images=[frame] * 20)
    assert refused(content, Limits(max_pages=20)).code == "too_many_pages"
    with pytest.raises(BadDocument):
        open_pages(saved(content), limits=Limits(max_pages=20))


def vast(format: str) -> bytes:
    """A file of few bytes whose header claims 30,000 x 30,000 pixels."""
    if format == "PNG":
        header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        data = b"IDAT" + zlib.compress(bytes(1000))
        chunks = b"".join(
            struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            for chunk in (header, data, b"IEND")
        )
        return b"\x89PNG\r\n\x1a\n" + chunks
    content = bytearray(encoded(photo(), format))
    if format == "BMP":
        content[18:26] = struct.pack("<ii", 30_000, 30_000)
    else:
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 30_000, 30_000)
    return bytes(content)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
@pytest.mark.parametrize("max_pixels", [80_000_000, 10**12])
def test_a_vast_image_is_refused_by_its_header(format: str, max_pixels: int) -> None:
    assert refused(vast(format), Limits(max_pixels=max_pixels)).code == "too_many_pixels"


def test_an_image_just_above_the_limit_is_refused() -> None:
    content = encoded(photo(), "PNG")
    assert inspect(BytesIO(content), limits=Limits(max_pixels=64_000)).pages == 1
    error = refused(content, Limits(max_pixels=63_999))
    assert error.code == "too_many_pixels"
    assert "320 x 200" in error.message


# Pages of images


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(
    format: str, orientation: int, saved: Callable[[bytes], Path]
) -> None:
    scene = Image.new("RGB", (96, 64), "white")
    ImageDraw.Draw(scene).rectangle([0, 0, 31, 31], fill="red")
    ImageDraw.Draw(scene).rectangle([64, 0, 95, 31], fill="blue")
    sensor = SENSOR[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = scene.transpose(sensor) if sensor is not None else scene
    path = saved(encoded(seen, format, exif=exif))
    with open_pages(path, limits=LIMITS) as pages:
        for _ in range(2):  # a page may be asked for again
            page = pages.render(0)
            assert (page.width, page.height) == scene.size
            assert np.abs(page.array().astype(int) - np.asarray(scene)).mean() < 8


def test_exif_that_is_nonsense_is_passed_over(saved: Callable[[bytes], Path]) -> None:
    path = saved(encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01rubbish"))
    assert first_page(path).image.size == (320, 200)


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("1", (8, 8), 1), "TIFF", (255, 255, 255)),
        (Image.new("L", (8, 8), 90), "BMP", (90, 90, 90)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), "WEBP", (204, 204, 204)),
        (Image.new("LA", (8, 8), (0, 51)), "PNG", (204, 204, 204)),
        (Image.new("RGB", (8, 8), (9, 200, 30)).quantize(), "PNG", (9, 200, 30)),
        (Image.fromarray(np.full((8, 8), 257 * 120, np.uint16)), "PNG", (120, 120, 120)),
        (Image.fromarray(np.full((8, 8), 257 * 120, np.uint16)), "TIFF", (120, 120, 120)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_rgb_on_white(
    image: Image.Image, format: str, expected: tuple, saved: Callable[[bytes], Path]
) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = first_page(saved(encoded(image, format, **options))).array()
    assert (pixels.dtype, pixels.shape) == (np.uint8, (8, 8, 3))
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_a_transparent_palette_colour_becomes_white(saved: Callable[[bytes], Path]) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30])
    page = first_page(saved(encoded(image, "PNG", transparency=0)))
    assert page.image.getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("levels", [(0.25, 0.5), (-3e6, 4e6)])
def test_float_images_are_stretched(levels: tuple, saved: Callable[[bytes], Path]) -> None:
    image = Image.fromarray(np.array([levels] * 4, np.float32))
    assert first_page(saved(encoded(image, "TIFF"))).array()[0, :, 0].tolist() == [0, 255]


def test_frames_of_a_tiff_keep_their_own_size_mode_and_order(
    saved: Callable[[bytes], Path],
) -> None:
    frames = [
        Image.new("L", (20, 10), 40),
        Image.new("RGB", (10, 30), (1, 2, 3)),
        Image.new("1", (50, 50), 1),
    ]
    path = saved(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    with open_pages(path, limits=LIMITS) as pages:
        assert len(pages) == 3
        for index in (2, 0, 1, 2):
            image = pages.render(index).image
            assert image.size == frames[index].size
            assert image.getpixel((5, 5)) == frames[index].convert("RGB").getpixel((5, 5))
        with pytest.raises(IndexError):
            pages.render(3)


def test_of_an_animation_the_first_frame_counts(saved: Callable[[bytes], Path]) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for format in ("WEBP", "PNG"):
        options = {"lossless": True} if format == "WEBP" else {}
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        path = saved(content)
        assert inspect(path, limits=LIMITS).pages == 1
        assert first_page(path).image.getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("written", "read"), [((300, 300), 300), (None, None), ((0, 0), None), ((1e9, 1e9), None)]
)
def test_resolution_is_given_where_the_image_has_one(
    written: tuple | None, read: int | None, saved: Callable[[bytes], Path]
) -> None:
    options = {"dpi": written} if written else {}
    assert first_page(saved(encoded(photo(), "TIFF", **options))).dpi == read


def test_a_page_that_cannot_be_decoded_is_a_bad_page(saved: Callable[[bytes], Path]) -> None:
    whole = encoded(
        photo(), "TIFF", save_all=True, append_images=[photo()], compression="tiff_deflate"
    )
    image = Image.open(BytesIO(whole))
    image.seek(1)
    strip = image.tag_v2[273][0]
    content = whole[:strip] + bytes(5_000) + whole[strip + 5_000 :]
    with open_pages(saved(content), limits=LIMITS) as pages:
        assert pages.render(0).image.size == (320, 200)
        with pytest.raises(BadPage, match="Page 2"):
            pages.render(1)


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


# What browsers are shown


def test_pages_are_encoded_anew_and_scaled(saved: Callable[[bytes], Path]) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where it was taken"
    content = encoded(photo(600, 300), "JPEG", exif=exif, comment=b"secret", icc_profile=b"x" * 200)
    page = first_page(saved(content))
    for make, format in ((page_png, "PNG"), (page_jpeg, "JPEG")):
        image = Image.open(BytesIO(make(page, max_side=200)))
        assert (image.format, image.size) == (format, (200, 100))
        assert not {"exif", "comment", "icc_profile"} & image.info.keys()
        assert Image.open(BytesIO(make(page))).size == (600, 300)
        assert Image.open(BytesIO(make(page, max_side=5000))).size == (600, 300)
    assert page.image.size == (600, 300)
