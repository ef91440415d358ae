"""What is accepted as a document, told by its bytes, and why the rest is refused."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from ocr.pages import BadDocument, Limits, inspect, open_pages
from tests.ocr.files import LIMITS, encoded, first_page, photo
from tests.ocr.pdfs import pdf, pdf_encrypted

# 96 x 64 pixels, white, with a red square at the top left and a blue one at the top right.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAAEkAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34"
    "+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmu"
    "bgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAA"
    "QAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAFFtZGF0AAAARSgBrwngIzaiP//70X3/"
    "/tzHof61s3SnH/Twfvv1Pq//4GANEf/9geiA+2i2/+aGNRQzB//6LHz5/dTAX94+CB//8Nr/gA=="
)


def refused(content: bytes, limits: Limits = LIMITS) -> BadDocument:
    with pytest.raises(BadDocument) as caught:
        inspect(BytesIO(content), limits=limits)
    return caught.value


# What a document is, by its content


@pytest.mark.parametrize(
    ("format", "media_type", "extension"),
    [
        ("PNG", "image/png", ".png"),
        ("JPEG", "image/jpeg", ".jpg"),
        ("TIFF", "image/tiff", ".tif"),
        ("WEBP", "image/webp", ".webp"),
        ("BMP", "image/bmp", ".bmp"),
        ("GIF", "image/gif", ".gif"),
        ("AVIF", "image/avif", ".avif"),
        ("JPEG2000", "image/jp2", ".jp2"),
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


def test_a_photo_of_an_iphone_is_read(saved: Callable[[bytes], Path]) -> None:
    path = saved(HEIC)
    info = inspect(path, limits=LIMITS)
    assert (info.media_type, info.extension, info.pages) == ("image/heic", ".heic", 1)
    image = first_page(path).image
    assert (image.mode, image.size) == ("RGB", (96, 64))
    for spot, colour in (((10, 10), "red"), ((80, 10), "blue"), ((80, 50), "white")):
        meant = ImageColor.getrgb(colour)
        assert all(abs(a - b) < 9 for a, b in zip(image.getpixel(spot), meant, strict=True))


def test_the_library_for_such_photos_is_loaded_with_the_first_of_them(tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(HEIC)
    program = (
        "import sys; from ocr.pages import Limits, inspect\n"
        "before = 'pi_heif' in sys.modules; inspect(sys.argv[1], limits=Limits())\n"
        "print(before, 'pi_heif' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_an_open_file_is_judged_from_its_start_and_left_open_there() -> None:
    for format in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "AVIF", "JPEG2000", "PDF"):
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
        b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2 a film",
        encoded(photo(), "PPM"),
        b"PK\x03\x04 an office document",
        bytes(range(256)) * 8,
    ],
)
def test_other_types_are_refused_with_what_is_accepted(content: bytes) -> None:
    error = refused(content)
    assert (error.code, error.status) == ("unsupported_type", 400)
    assert "PDF, PNG, JPEG, TIFF, WebP, HEIC, AVIF, JPEG 2000, GIF or BMP" in error.message


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
        ("GIF", {}),
        ("AVIF", {}),
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
