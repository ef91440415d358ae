"""Reads the PDFs that we write, by poppler and pikepdf."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

from lxml import etree
from pikepdf import Pdf, pdfa
from PIL import Image

from ocr import exports
from ocr.models import OcrJob
from tests.ocr.printed import Box, Printed


def result(page: Printed, **more: Any) -> dict[str, Any]:
    width, height = page.image.size
    return {"lines": page.lines, "width": width, "height": height, "dpi": 150} | more


def written(job: OcrJob, folder: Path) -> Path:
    path = folder / "made.pdf"
    with path.open("wb") as file:
        exports.write(job, "pdf", file)
    return path


def text_of(path: Path, *options: str) -> str:
    return subprocess.run(
        ["pdftotext", *options, str(path), "-"], capture_output=True, text=True, check=True
    ).stdout


def lines_of(path: Path, *options: str) -> list[str]:
    return [one for one in text_of(path, *options).splitlines() if one.strip(" \f")]


def words_of(path: Path) -> list[tuple[str, Box]]:
    """The words of page 1 and their boxes, in shares of the page as it is shown."""
    tree = etree.fromstring(
        text_of(path, "-bbox", "-cropbox").encode(), etree.HTMLParser(encoding="utf-8")
    )
    sheet = next(tree.iter("page"))
    width, height = float(sheet.get("width")), float(sheet.get("height"))
    with Pdf.open(path) as pdf:
        if pdf.pages[0].rotation % 180:
            width, height = height, width  # pdftotext gives the sides of the page as it lies
    return [
        (
            word.text,
            (
                *(float(word.get("xmin")) / width, float(word.get("ymin")) / height),
                *(float(word.get("xmax")) / width, float(word.get("ymax")) / height),
            ),
        )
        for word in sheet.iter("word")
    ]


def check_places(found: list[tuple[str, Box]], page: Printed, *, least: float) -> None:
    """Each word of the page is found in order, in a box that shares `least` with its own."""
    width, height = page.image.size
    assert [word for word, _box in found] == [word for word, _box in page.words]
    for (word, box), (_word, true) in zip(found, page.words, strict=True):
        left, top, right, bottom = (
            share * side for share, side in zip(box, (width, height) * 2, strict=True)
        )
        shared = max(0, min(right, true[2]) - max(left, true[0])) * max(
            0, min(bottom, true[3]) - max(top, true[1])
        )
        middle = ((true[0] + true[2]) / 2, (true[1] + true[3]) / 2)
        assert left < middle[0] < right and top < middle[1] < bottom, word
        # Of the word's own height, which is that of its letters: the line's is more.
        assert shared >= least * (true[2] - true[0]) * (true[3] - true[1]), (word, box, true)


def approved(path: Path) -> bool:
    return pdfa.validate_written(path, "2b").passed


def drawn(path: Path, page: int = 1, dpi: int = 72) -> Image.Image:
    png = subprocess.run(
        [
            "pdftoppm",
            "-cropbox",
            "-r",
            str(dpi),
            "-f",
            str(page),
            "-l",
            str(page),
            "-png",
            str(path),
        ],
        capture_output=True,
        check=True,
    ).stdout
    return Image.open(BytesIO(png))


def difference(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures of one size, as a share of white."""
    small = [image.convert("L").resize((175, 100)).tobytes() for image in (one, other)]
    return sum(abs(a - b) for a, b in zip(*small, strict=True)) / (175 * 100 * 255)
