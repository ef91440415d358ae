"""The pages of images: TIFF has several; of an animation the first frame counts."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ocr.formats import HEIF, PNG, TIFF, BadDocument, Kind, Limits, check_count, damaged, too_large
from ocr.page_image import DECODE_ERRORS, PageImage, page_image
from ocr.page_source import BadPage, PageSource


class ImagePages(PageSource):
    """One image file, open; each page is decoded when it is asked for. Raises BadDocument."""

    def __init__(self, path: Path, kind: Kind, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._multiple = kind is TIFF
        self._image = open_image(path, kind, limits)
        try:
            self._pages = survey(self._image, kind, limits)
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


def open_image(source: Path | BinaryIO, kind: Kind, limits: Limits) -> Image.Image:
    """The image with its header read and held to Pillow's ceiling. Raises BadDocument."""
    if kind is HEIF:
        _add_heif()
    try:
        return Image.open(source, formats=[kind.name])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        ceiling = 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels)
        raise too_large("too many pixels", min(limits.max_pixels, ceiling)) from error
    except DECODE_ERRORS as error:
        raise damaged() from error


def survey(image: Image.Image, kind: Kind, limits: Limits) -> int:
    """Count the pages by their headers alone, each held to the limits. Raises BadDocument."""
    pages = 0
    for width, height in _frame_sizes(image, kind):
        pages += 1
        check_count(pages, limits)
        if width * height > limits.max_pixels:
            raise too_large(f"{width:,} x {height:,} pixels", limits.max_pixels)
    return pages


def verify(stream: BinaryIO, kind: Kind, limits: Limits) -> None:
    """Go through the whole of the first frame's data, as cheaply as its format allows."""
    stream.seek(0)
    image = open_image(stream, kind, limits)
    try:
        if kind is PNG:
            image.verify()  # checksums, chunk by chunk, nothing decoded
            return
        # A JPEG at an eighth of its size still has every byte read, at a 64th of the memory.
        image.draft(None, (image.width // 8, image.height // 8))
        image.load()
    except DECODE_ERRORS as error:
        raise damaged() from error


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


def _check_extent(image: Image.Image) -> None:
    """A TIFF cut short: some strip or tile of the frame lies past the end of the file."""
    tags = image.tag_v2
    end = image.fp.seek(0, os.SEEK_END)
    for offsets, counts in ((273, 279), (324, 325)):
        for offset, count in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False):
            if offset + count > end:
                raise OSError("image data past the end of the file")


def _add_heif() -> None:
    """Pillow's decoder of iPhone photos is a library apart, loaded once somebody sends one."""
    from pi_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
