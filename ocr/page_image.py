"""One page as engines and browsers take it: upright, RGB, 8 bits, and encoded anew."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    import numpy as np

# What Pillow's decoders raise on damaged bytes.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError),
    *(LookupError, ArithmeticError, EOFError, struct.error),
)


@dataclass(frozen=True, slots=True, eq=False)
class PageImage:
    """One page upright in RGB; `dpi` is None where an image does not say."""

    image: Image.Image
    dpi: int | None = None

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def array(self) -> np.ndarray:
        """The page as engines take it: RGB, uint8, shape (height, width, 3), read-only."""
        import numpy as np

        return np.asarray(self.image)


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
        return ImageOps.exif_transpose(image)
    except DECODE_ERRORS:
        return image.copy()


def _flat(image: Image.Image) -> Image.Image:
    """RGB, 8 bits, transparency laid on white, and none of the upload's metadata."""
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
