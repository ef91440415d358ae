"""json: everything that is known of a job and its pages."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from ocr.exports.page import JobPages
from ocr.results import PAGE_BREAK, job_head, page_json


def write(pages: JobPages, target: BinaryIO) -> None:
    """The object of `ocr.results.job_json`, of which only one page is held at a time."""
    text = PAGE_BREAK.join(page.text for page in pages).rstrip("\n")
    head = _indented(job_head(pages.job) | {"text": text}, 0)
    target.write(head.removesuffix("\n}").encode() + b',\n "pages": [')
    between = "\n  "
    for result in pages.results():
        page = page_json(result, pages.job.min_confidence, corrected=True)
        target.write((between + _indented(page, 2)).encode())
        between = ",\n  "
    target.write(b"\n ]\n}\n")


def _indented(value: dict[str, Any], depth: int) -> str:
    # Within strings json writes newlines as \n: each one here ends a line of the file.
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return text.replace("\n", "\n" + " " * depth)
