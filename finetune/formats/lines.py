"""Lines of OCR: the picture of a line and the text that stands in it."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from finetune.formats.base import Format, Given, Row, Trouble, Troubles
from ocr.page_image import DECODE_ERRORS, page_image, page_png

IMAGE_COLUMNS = ("image", "image_path", "file_name", "filename", "file", "path", "img")
TEXT_COLUMNS = ("text", "words", "label", "transcription", "ground_truth", "gt")
IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2")
)
# Kept as they came; anything else is written anew as PNG.
KEPT = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
# A line is a strip: 20 megapixels are a whole page at 400 dpi.
MOST_PIXELS = 20_000_000


def columns_of(given: Given) -> tuple[str, str] | None:
    """(image column, text column); None where there aren't both."""
    image = next((name for name in IMAGE_COLUMNS if name in given), None)
    text = next((name for name in TEXT_COLUMNS if name in given), None)
    return (image, text) if image and text else None


def lines_match(given: Given) -> bool:
    columns = columns_of(given)
    if columns is None:
        return False
    image = given[columns[0]]
    if isinstance(image, str):
        return is_image_name(image) or image.startswith("data:image/") or columns[0] == "image"
    return isinstance(image, bytes | dict)


def is_image_name(name: str) -> bool:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES


def lines_convert(given: Given, troubles: Troubles) -> Row | None:
    """The picture in base64, as it came if browsers and libraries read it, else as PNG."""
    columns = columns_of(given)
    if columns is None:
        wrong = f"The row has no picture (one of {', '.join(IMAGE_COLUMNS[:4])}) or no text."
        troubles.append(Trouble("missing_field", "image", wrong))
        return None
    image, text = given[columns[0]], given[columns[1]]
    if not isinstance(text, str):
        troubles.append(Trouble("not_text", columns[1], f"'{columns[1]}' is no string."))
    elif text.lstrip().startswith('[{"transcription"'):
        wrong = "This is a label of detection (boxes of a page), not the text of a line."
        troubles.append(Trouble("other_format", columns[1], wrong))
    elif not text.strip():
        troubles.append(Trouble("empty_target", columns[1], "The line's text is empty."))
    content = _bytes_of(image)
    if content is None:
        name = image if isinstance(image, str) else ""
        wrong = f"The picture {name[:200]!r} is not there."
        troubles.append(Trouble("image_missing", columns[0], wrong))
    if troubles or content is None:
        return None
    picture = _picture(content, columns[0], troubles)
    return None if picture is None else {"text": text, **picture}


def _bytes_of(image: Any) -> bytes | None:
    if isinstance(image, dict):
        image = image.get("bytes")
    if isinstance(image, str):
        if is_image_name(image) and not image.startswith("data:"):
            return None
        try:
            image = b64decode(image.partition("base64,")[2] or image, validate=True)
        except (binascii.Error, ValueError):
            return None
    return image if isinstance(image, bytes) and image else None


def _picture(content: bytes, field: str, troubles: Troubles) -> Row | None:
    try:
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                wrong = f"The picture has {image.width} times {image.height} pixels: no line."
                troubles.append(Trouble("bad_image", field, wrong))
                return None
            image.load()
            media_type = KEPT.get(image.format or "")
            width, height = image.size
            if media_type is None:
                media_type, content = "image/png", page_png(page_image(image))
    except (*DECODE_ERRORS, Image.DecompressionBombError) as error:
        troubles.append(Trouble("bad_image", field, f"The picture can't be read: {error}"))
        return None
    return {
        "image": b64encode(content).decode(),
        "media_type": media_type,
        "width": width,
        "height": height,
    }


OCR_LINES = Format(
    "ocr-lines",
    "ocr",
    "OCR lines",
    "labels.csv (filename,words) or rec_gt.txt (path, tab, text) beside the pictures",
    lines_match,
    lines_convert,
)
