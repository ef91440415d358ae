"""Images as pages of a PDF, with their own bytes wherever PDF knows the compression."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

import img2pdf
import pikepdf
from pikepdf import Pdf
from PIL import Image, ImageChops, UnidentifiedImageError

from ocr.exports.page import PageText
from ocr.page_image import DECODE_ERRORS
from ocr.pages import BadPage, PageSource

# What a JPEG's EXIF may ask for that a PDF page can do: turning, but no mirroring.
_TURNED = (None, 1, 3, 6, 8)
_ORIENTATION = 274
# What may hold a picture that a PDF takes as it is; of other formats none does.
_EMBEDDABLE = ("JPEG", "PNG", "TIFF", "BMP")
_QUALITY = 90
# Pages in one file of those that wait on disk until the whole document is written.
_PART = 16

# What software writes that knows of no resolution is 72 or 96, and some writes nothing.
_SCREEN_DPI = 96
_USUAL_DPI = 200
# Inches; points are 1/72 of one.
_A4 = (8.27, 11.69)


class ImageBook:
    """Pages made of images, one after the other; of their bytes none stays in memory."""

    def __init__(self, folder: Path, source: PageSource, path: Path) -> None:
        """`source` draws the pages of the document at `path`, whose own bytes serve if they can."""
        self._folder = folder
        self._source = source
        self._originals = _embeddable(path)
        self._part = Pdf.new()
        self._numbers: list[int] = []
        self._parts: list[Pdf] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in self._parts:
            part.close()
        if self._originals:
            self._originals.close()

    def add(self, page: PageText) -> None:
        """A page that can't be drawn is a blank one."""
        content = self._original(page.number - 1) or self._drawn(page.number - 1)
        if content is None:
            self._part.add_blank_page(page_size=tuple(72 * side for side in _A4))
        else:
            with Pdf.open(BytesIO(_image_pdf(content, page.dpi))) as made:
                self._part.pages.append(made.pages[0])
        self._numbers.append(page.number)
        if len(self._part.pages) == _PART:
            self._flush()

    def pages(self) -> dict[int, pikepdf.Page]:
        """The pages by their numbers, to be put into another PDF while this book is open."""
        if len(self._part.pages):
            self._flush()
        pages = (page for part in self._parts for page in part.pages)
        return dict(zip(self._numbers, pages, strict=True))

    def _flush(self) -> None:
        path = self._folder / f"images-{len(self._parts)}.pdf"
        self._part.save(path)
        self._part = Pdf.new()
        self._parts.append(Pdf.open(path))

    def _original(self, index: int) -> bytes | None:
        """The picture in a form that goes into a PDF without loss; None where there is none."""
        image = self._originals
        if image is None:
            return None
        try:
            if image.format == "TIFF":
                image.seek(index)
            if image.mode == "1":
                # Two colours: img2pdf makes CCITT of them, the smallest that needs no guessing.
                return _encoded(image, "BMP")
            return Path(image.filename).read_bytes() if _as_it_is(image) else None
        except DECODE_ERRORS:
            return None

    def _drawn(self, index: int) -> bytes | None:
        try:
            image = self._source.render(index).image
        except BadPage:
            return None
        red, green, blue = image.split()
        gray = not any(ImageChops.difference(red, one).getbbox() for one in (green, blue))
        return _encoded(red if gray else image, "JPEG", quality=_QUALITY)


def resolution(width: int, height: int, dpi: float | None) -> float:
    """Dots an inch of a page of so many pixels: what the image says, if that can be believed.

    A photograph that says 72 would be a metre high. It is taken for a sheet of A4, and a picture
    that is smaller than one for a scan at the usual resolution.
    """
    if dpi and dpi > _SCREEN_DPI:
        return dpi
    short, long = sorted((width, height))
    return max(_USUAL_DPI, short / _A4[0], long / _A4[1])


def _embeddable(path: Path) -> Image.Image | None:
    """None for a PDF, and for an image that no PDF takes as it is."""
    try:
        return Image.open(path, formats=_EMBEDDABLE)
    except UnidentifiedImageError:
        return None


def _as_it_is(image: Image.Image) -> bool:
    """Whether a PDF shows this file's bytes just as the page was read.

    CMYK is left out: a page in it would be no PDF/A beside the others, which are RGB.
    """
    if image.format == "JPEG":
        turned = image.getexif().get(_ORIENTATION) in _TURNED
        return turned and image.mode in ("L", "RGB")
    plain = image.mode in ("L", "P", "RGB") and not image.has_transparency_data
    return image.format == "PNG" and plain and _ORIENTATION not in image.getexif()


def _image_pdf(content: bytes, dpi: float | None) -> bytes:
    def layout(width: int, height: int, _stated: tuple[float, float]) -> tuple[float, ...]:
        points = 72 / resolution(width, height, dpi)
        return (width * points, height * points) * 2

    return img2pdf.convert(
        content,
        engine=img2pdf.Engine.pikepdf,
        layout_fun=layout,
        first_frame_only=True,
        rotation=img2pdf.Rotation.auto,
    )


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    target = BytesIO()
    image.save(target, form, **options)
    return target.getvalue()
