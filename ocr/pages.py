"""Documents in, page images out: an upload is judged by its content and rasterised page by page.

Nothing here trusts a file: its type comes from its bytes, its size from its header before any
pixel is decoded, and what a browser is shown is encoded anew.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from PIL import Image

from ocr.formats import (
    PDF,
    PNG,
    TIFF,
    BadDocument,
    Kind,
    Limits,
    check_count,
    damaged,
    identify,
    pdf_refused,
    too_large,
)
from ocr.page_image import DECODE_ERRORS, PageImage, page_image, page_jpeg, page_png

__all__ = [
    "BadDocument",
    "BadPage",
    "DocumentInfo",
    "Limits",
    "PageImage",
    "PageSource",
    "inspect",
    "open_pages",
    "page_jpeg",
    "page_png",
]

# Measured on 6 pt print: 150 dpi costs 0.6 % (rapidocr) and 1.0 % (Tesseract) of the characters,
# 200 dpi 0.25 and 0.03 %, and 300 dpi next to nothing more for twice the pixels.
DEFAULT_DPI = 200

# Beyond this a side is useless for reading and breaks JPEG (65,535) and WebP (16,383) on the way.
_LONGEST_SIDE = 16_000

# pdfium keeps global state: two threads inside it at once corrupt each other's pages.
_PDFIUM = threading.Lock()


class BadPage(Exception):
    """One page of an otherwise readable document can't be turned into an image."""


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """What the content says the file is; `extension` has its dot."""

    media_type: str
    extension: str
    pages: int


class PageSource(ABC):
    """The pages of one open document; `render` may be called from several threads."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _render(self, index: int) -> PageImage: ...

    @abstractmethod
    def close(self) -> None: ...

    def render(self, index: int) -> PageImage:
        """Page `index`, counted from 0. Raises BadPage where that page can't be decoded."""
        if not 0 <= index < len(self):
            raise IndexError(f"page {index} of a document of {len(self)}")
        return self._render(index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def inspect(file: str | os.PathLike[str] | BinaryIO, *, limits: Limits) -> DocumentInfo:
    """Judge an upload: its type, its pages, and whether it is whole. Raises BadDocument.

    `file` is a path or a seekable binary file, which is left open and at its start. A PDF given
    as an open file is read into memory: give the path of a large one.
    """
    with _opened(file) as stream:
        kind = identify(stream, limits)
        if kind is PDF:
            content = Path(file) if isinstance(file, str | os.PathLike) else stream.read()
            with _PdfPages(content, dpi=DEFAULT_DPI, limits=limits) as source:
                pages = len(source)
        else:
            pages = _survey(_open_image(stream, kind, limits), kind, limits)
            _verify(stream, kind, limits)
    return DocumentInfo(kind.media_type, kind.extension, pages)


def open_pages(
    path: str | os.PathLike[str], *, dpi: int = DEFAULT_DPI, limits: Limits
) -> PageSource:
    """Open a document for reading page by page; close it, or use it in `with`.

    `dpi` is for PDFs, lowered for pages so large that they would pass `limits.max_pixels`.
    Raises BadDocument for what `inspect` refuses, short of decoding the pixels.
    """
    path = Path(path)
    with path.open("rb") as stream:
        kind = identify(stream, limits)
    if kind is PDF:
        return _PdfPages(path, dpi=dpi, limits=limits)
    return _ImagePages(path, kind, limits)


class _PdfPages(PageSource):
    def __init__(self, source: Path | bytes, *, dpi: int, limits: Limits) -> None:
        import pypdfium2 as pdfium
        import pypdfium2.raw as raw

        self._dpi = dpi
        self._max_pixels = limits.max_pixels
        self._bytes = source  # pdfium reads from this memory as long as the document is open
        with _PDFIUM:
            # The raw call tells a document without pages from one that did not open, and leaks
            # neither; PdfDocument(path) reports both by an error code that may be a stale one.
            if isinstance(source, bytes):
                handle = raw.FPDF_LoadMemDocument64(source, len(source), None)
            else:
                handle = raw.FPDF_LoadDocument(os.fsencode(source), None)
            if not handle:
                raise pdf_refused(raw.FPDF_GetLastError())
            self._document = pdfium.PdfDocument(handle)
            with suppress(pdfium.PdfiumError):  # a form that is broken is left out
                self._document.init_forms()  # else what people filled in is not drawn
            self._pages = len(self._document)
        try:
            check_count(self._pages, limits)
        except BadDocument:
            self.close()
            raise

    def __len__(self) -> int:
        return self._pages

    def _render(self, index: int) -> PageImage:
        import pypdfium2 as pdfium

        # The page is closed before the lock is given up: memory stays that of one page.
        with _PDFIUM:
            try:
                page = self._document.get_page(index)
            except pdfium.PdfiumError as error:
                raise BadPage(f"Page {index + 1} of the PDF is damaged.") from error
            try:
                scale = self._scale(page.get_width(), page.get_height())
                bitmap = page.render(scale=scale, rev_byteorder=True)
                image = bitmap.to_pil()
                bitmap.close()
            except (pdfium.PdfiumError, ArithmeticError, ValueError) as error:
                raise BadPage(f"Page {index + 1} of the PDF can't be drawn: {error}") from error
            finally:
                page.close()
        return PageImage(image, max(1, round(scale * 72)))

    def _scale(self, width: float, height: float) -> float:
        """Pixels a point (1/72 inch) for a page of this size, within the pixel limit."""
        fits = math.sqrt(self._max_pixels / (width * height))
        scale = min(self._dpi / 72, fits, _LONGEST_SIDE / max(width, height))
        while math.ceil(width * scale) * math.ceil(height * scale) > self._max_pixels:
            scale *= 0.999
        return scale

    def close(self) -> None:
        with _PDFIUM:
            self._document.close()


class _ImagePages(PageSource):
    def __init__(self, path: Path, kind: Kind, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._multiple = kind is TIFF
        self._image = _open_image(path, kind, limits)
        try:
            self._pages = _survey(self._image, kind, limits)
        except BadDocument:
            self.close()
            raise

    def __len__(self) -> int:
        return self._pages

    def _render(self, index: int) -> PageImage:
        with self._lock:
            try:
                if self._multiple:
                    self._image.seek(index)
                self._image.load()
                return page_image(self._image)
            except DECODE_ERRORS as error:
                raise BadPage(f"Page {index + 1} of the image is damaged: {error}") from error

    def close(self) -> None:
        self._image.close()


@contextmanager
def _opened(file: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as stream:
            yield stream
        return
    try:
        yield file
    finally:
        file.seek(0)


def _open_image(source: Path | BinaryIO, kind: Kind, limits: Limits) -> Image.Image:
    try:
        return Image.open(source, formats=[kind.name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        ceiling = 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels)
        raise too_large("too many pixels", min(limits.max_pixels, ceiling)) from error
    except DECODE_ERRORS as error:
        raise damaged() from error


def _survey(image: Image.Image, kind: Kind, limits: Limits) -> int:
    """Count the pages by their headers alone, each held to the limits."""
    pages = 0
    for width, height in _frame_sizes(image, kind):
        pages += 1
        check_count(pages, limits)
        if width * height > limits.max_pixels:
            raise too_large(f"{width:,} x {height:,} pixels", limits.max_pixels)
    return pages


def _frame_sizes(image: Image.Image, kind: Kind) -> Iterator[tuple[int, int]]:
    """Only TIFF has pages: other frames are those of an animation, of which the first counts."""
    if kind is not TIFF:
        yield image.size
        return
    try:
        for index in itertools.count():
            image.seek(index)
            _check_extent(image)
            yield image.size
    except EOFError:
        return
    except DECODE_ERRORS as error:
        raise damaged() from error


def _verify(stream: BinaryIO, kind: Kind, limits: Limits) -> None:
    """Go through the whole of the first frame's data, as cheaply as its format allows."""
    stream.seek(0)
    image = _open_image(stream, kind, limits)
    try:
        if kind is PNG:
            image.verify()  # checksums, chunk by chunk, nothing decoded
            return
        # A JPEG at an eighth of its size still has every byte read, at a 64th of the memory.
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()
    except DECODE_ERRORS as error:
        raise damaged() from error


def _check_extent(image: Image.Image) -> None:
    """A TIFF cut short: some strip or tile of the frame lies past the end of the file."""
    tags = image.tag_v2
    end = image.fp.seek(0, os.SEEK_END)
    for offsets, counts in ((273, 279), (324, 325)):
        for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
            if offset + count > end:
                raise OSError("image data past the end of the file")
