"""One page as engines and browsers take it: upright, RGB, 8 bits, and encoded anew."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageCms, ImageOps

if TYPE_CHECKING:
    import numpy as np

# What Pillow's decoders raise on damaged bytes.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError),
    *(LookupError, ArithmeticError, EOFError, struct.error),
)

# Pillow counts against the clock.
_CLOCKWISE = {
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}


@dataclass(slots=True, eq=False)
class PageImage:
    """One page in RGB; `dpi` is None where an image does not say. Nobody changes its pixels."""

    image: Image.Image
    dpi: int | None = None
    _array: np.ndarray | None = field(default=None, init=False, repr=False)

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def array(self) -> np.ndarray:
        """The page as engines take it: RGB, uint8, shape (height, width, 3), read-only."""
        import numpy as np

        if self._array is None:
            self._array = np.asarray(self.image)
        return self._array

    def turned(self, degrees: int) -> PageImage:
        """The page turned clockwise by 0, 90, 180 or 270 degrees."""
        if not degrees:
            return self
        return PageImage(self.image.transpose(_CLOCKWISE[degrees]), self.dpi)

    def cropped(self, box: tuple[int, int, int, int]) -> PageImage:
        """The part of the page within left, top, right and bottom, in pixels."""
        return PageImage(self.image.crop(box), self.dpi)

    def blank(self) -> bool:
        """Whether all of the page is of nearly one colour."""
        return all(high - low < 32 for low, high in self.image.getextrema())


def page_image(image: Image.Image) -> PageImage:
    """A decoded image of any mode as a page: turned as its EXIF asks, laid on white.

    Raises one of DECODE_ERRORS where Pillow can't convert it.
    """
    return PageImage(_flat(_upright(image)), _dpi(image.info.get("dpi")))


def page_png(page: PageImage, *, max_side: int | None = None) -> bytes:
    """The page as a fresh PNG, its longer side at most `max_side` pixels."""
    return _encoded(page, max_side, format="PNG", compress_level=6)


def page_jpeg(page: PageImage, *, max_side: int | None = None, quality: int = 85) -> bytes:
    """The page as a fresh JPEG, its longer side at most `max_side` pixels."""
    return _encoded(page, max_side, format="JPEG", quality=quality)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF asks; EXIF that can't be parsed asks for nothing."""
    try:
        asks = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if asks else image
    except DECODE_ERRORS:
        return image


def _flat(image: Image.Image) -> Image.Image:
    """A new image: RGB, 8 bits, transparency on white, and none of the upload's metadata."""
    if image.mode == "LAB":
        # Pillow itself converts it to nothing else.
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    if image.mode.startswith("I;16"):
        # convert() clips at 255; 65,535 is white.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    elif image.mode in ("I", "F"):
        # No white point is defined: what is there is stretched over the range.
        low, high = image.getextrema()
        scale = 255 / ((high - low) or 1)
        image = image.point(lambda value: value * scale - low * scale).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    image.info.clear()
    return image


def _dpi(value: object) -> int | None:
    """Horizontal resolution out of an image's metadata, where it is one."""
    try:
        dpi = float(value[0])  # type: ignore[index]
    except DECODE_ERRORS:
        return None
    # Writers that don't know put 0 or 1; no scanner is below 20.
    return round(dpi) if 20 <= dpi <= 10_000 else None


def _encoded(page: PageImage, max_side: int | None, **options: object) -> bytes:
    image = page.image
    if max_side and max(image.size) > max_side:
        image = image.copy()
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = BytesIO()
    image.save(target, **options)
    return target.getvalue()
