"""Files to be taken for documents, made in memory."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ocr.pages import Limits, PageImage, open_pages

LIMITS = Limits()


def photo(width: int = 320, height: int = 200) -> Image.Image:
    """Noise, so that no format can store it in few bytes."""
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    target = BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def first_page(path: Path) -> PageImage:
    with open_pages(path, limits=LIMITS) as pages:
        return pages.render(0)
