"""tsv: a line of text a line, with its place, for spreadsheets and scripts."""

from __future__ import annotations

from typing import BinaryIO

from ocr.exports.page import JobPages, PageText

COLUMNS = ("page", "block", "line", "left", "top", "right", "bottom", "confidence", "text")


def write(pages: JobPages, target: BinaryIO) -> None:
    """Numbers count from 1; boxes are in pixels. Nothing is quoted: a text holds no tab."""
    target.write(("\t".join(COLUMNS) + "\n").encode())
    for page in pages:
        target.write("".join(_rows(page)).encode())


def _rows(page: PageText) -> list[str]:
    rows = []
    for number, block in enumerate(page.blocks, 1):
        for index in range(block.first, block.end):
            line = page.lines[index]
            fields = [page.number, number, index + 1, *(round(side) for side in line.box)]
            text = " ".join(line.text.split())
            rows.append("\t".join([*map(str, fields), f"{line.confidence:.4f}", text]) + "\n")
    return rows
