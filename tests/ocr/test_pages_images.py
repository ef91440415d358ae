"""Pages of images: upright, RGB, on white, whatever they were; and what browsers are shown."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ocr.pages import BadPage, PageImage, inspect, open_pages, page_jpeg, page_png
from tests.ocr.files import LIMITS, encoded, first_page, photo

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
        (Image.fromarray(np.full((8, 8), 257 * 120, np.uint16)), "JPEG2000", (120, 120, 120)),
        (Image.new("LAB", (8, 8), (136, 208, 195)), "TIFF", (250, 3, 11)),
        (Image.new("RGB", (8, 8), (9, 200, 30)).quantize(), "GIF", (9, 200, 30)),
        (Image.new("L", (8, 8), 90), "JPEG2000", (90, 90, 90)),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), "AVIF", (204, 204, 204)),
        (Image.new("YCbCr", (8, 8), (76, 85, 255)), "TIFF", (254, 0, 0)),
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
    for format in ("WEBP", "PNG", "GIF", "AVIF"):
        options = {"lossless": True} if format == "WEBP" else {}
        content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        path = saved(content)
        assert inspect(path, limits=LIMITS).pages == 1
        red, green, blue = first_page(path).image.getpixel((3, 3))
        assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize(
    ("written", "read"), [((300, 300), 300), (None, None), ((0, 0), None), ((1e9, 1e9), None)]
)
def test_resolution_is_given_where_the_image_has_one(
    written: tuple | None, read: int | None, saved: Callable[[bytes], Path]
) -> None:
    options = {"dpi": written} if written else {}
    assert first_page(saved(encoded(photo(), "TIFF", **options))).dpi == read


@pytest.mark.parametrize("white", [0, 1])
def test_a_fax_is_black_on_white_whichever_way_it_counts(
    white: int, saved: Callable[[bytes], Path]
) -> None:
    page = Image.new("1", (64, 64), white)
    ImageDraw.Draw(page).rectangle([0, 0, 31, 63], fill=1 - white)
    content = encoded(page, "TIFF", compression="group4")
    # Pillow always says that 1 is white (tag 262, a short).
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    assert content.count(tag + b"\x01") == 1
    image = first_page(saved(content.replace(tag + b"\x01", tag + bytes([white])))).image
    assert [image.getpixel((x, 9)) for x in (9, 50)] == [(0, 0, 0), (255, 255, 255)]


def test_a_page_is_turned_clockwise() -> None:
    scene = Image.new("RGB", (6, 4), "white")
    scene.putpixel((0, 0), (255, 0, 0))
    page = PageImage(scene, 300)
    for degrees, size, spot in (
        (0, (6, 4), (0, 0)),
        (90, (4, 6), (3, 0)),
        (180, (6, 4), (5, 3)),
        (270, (4, 6), (0, 5)),
    ):
        turned = page.turned(degrees)
        assert (turned.image.size, turned.dpi) == (size, 300)
        assert turned.image.getpixel(spot) == (255, 0, 0)


def test_only_a_page_of_one_colour_is_blank() -> None:
    page = Image.new("RGB", (40, 40), (240, 238, 235))
    assert PageImage(page).blank()
    page.putpixel((20, 20), (30, 30, 30))
    assert not PageImage(page).blank()


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
