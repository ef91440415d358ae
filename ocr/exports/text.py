"""txt: the pages' text as a person reads it, a form feed between two pages."""

from __future__ import annotations

from typing import BinaryIO

from ocr.exports.page import JobPages
from ocr.results import PAGE_BREAK


def write(pages: JobPages, target: BinaryIO) -> None:
    """A page that could not be read is an empty one, so that the others keep their place."""
    between = ""
    for page in pages:
        target.write((between + page.text).encode())
        between = PAGE_BREAK
    target.write(b"\n")
