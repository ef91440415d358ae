"""Sample documents drawn from scratch, with the text each of their pages holds.

Latin pages use the font inside Pillow and its basic layout, never the system's, and all noise is
seeded: every machine draws the same pixels. Hangul needs a font of the system.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random

from PIL import Image

from ocr import sample_texts as texts
from ocr.sample_sheet import Sheet, scanned

KOREAN_FONT_MISSING = "No font with Hangul was found: install fonts-nanum or fonts-noto-cjk."

_DPI = 150
_A4 = (1240, 1754)
_FAINT = (96, 100, 110)
_KOREAN_FONTS = (
    "/usr/share/fonts/truetype/nanum/NanumGothic.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/noto/NotoSansKR-Regular.ttf",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A document on disk; `truth` has the text of each page, its lines in reading order.

    `language` is an ISO 639-1 code.
    """

    name: str
    path: Path
    language: str
    truth: tuple[str, ...]


def render_samples(folder: Path) -> list[Sample]:
    """Draw the samples into `folder`; what is already there unchanged is not written again.

    The Korean page is left out where `korean_font()` is None: KOREAN_FONT_MISSING says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [
        ("english-page.png", "en", [_english_page()]),
        ("receipt.png", "en", [_receipt()]),
        ("scanned-agreement.pdf", "en", _agreement()),
        ("invoice.png", "en", [_invoice()]),
    ]
    if font := korean_font():
        drawn.append(("korean-page.png", "ko", [_korean_page(font)]))
    samples = []
    for name, language, sheets in drawn:
        path = folder / name
        images = [sheet.image for sheet in sheets]
        _write(path, _pdf(images, _DPI) if path.suffix == ".pdf" else _png(images[0]))
        truth = tuple("\n".join(sheet.lines) for sheet in sheets)
        samples.append(Sample(path.stem, path, language, truth))
    return samples


@cache
def korean_font() -> Path | None:
    """A font file with Hangul: a well-known one of Debian's, or what fontconfig finds."""
    for candidate in map(Path, _KOREAN_FONTS):
        if candidate.is_file():
            return candidate
    if not (fc_list := shutil.which("fc-list")):
        return None
    listed = subprocess.run(
        [fc_list, ":lang=ko", "--format=%{file}\n"], capture_output=True, text=True, check=False
    )
    files = sorted(line for line in listed.stdout.splitlines() if line)
    return Path(files[0]) if files else None


def multi_page_pdf(path: Path, pages: int) -> tuple[str, ...]:
    """Write a PDF of `pages` small gray pages, no two alike, and return the text of each."""
    images, truth = [], []
    for number in range(1, pages + 1):
        sheet = Sheet((480, 270), margin=32, mode="L", ink=20)
        words = Random(number).sample(texts.WORDS, 8)
        sheet.line(f"Page {number} of {pages}", 30, bold=True, gap=14)
        sheet.line(f"Shelf mark K-{1000 + 37 * number}", 26, gap=14)
        sheet.line(" ".join(words[:4]), 26, gap=10)
        sheet.line(" ".join(words[4:]), 26)
        images.append(sheet.image)
        truth.append("\n".join(sheet.lines))
    _write(path, _pdf(images, 96))
    return tuple(truth)


def _english_page() -> Sheet:
    sheet = Sheet(_A4, margin=130)
    sheet.line(texts.LIBRARY, 38, bold=True, ink=(32, 64, 110), gap=6)
    sheet.line(texts.LIBRARY_ADDRESS, 20, ink=_FAINT, gap=14)
    sheet.rule(gap=46, width=3)
    sheet.line(texts.PAGE_DATE, 23, align="right", gap=26)
    sheet.line(texts.PAGE_TITLE, 46, bold=True, gap=24)
    for heading, paragraphs in texts.PAGE_SECTIONS:
        if heading:
            sheet.line(heading, 29, bold=True, gap=12)
        for paragraph in paragraphs:
            sheet.paragraph(paragraph, 24, gap=26)
    sheet.y = _A4[1] - 120
    sheet.line(texts.PAGE_FOOTER, 19, align="center", ink=_FAINT)
    return sheet


def _receipt() -> Sheet:
    sheet = Sheet((600, 1090), margin=54, ink=(40, 40, 44))
    sheet.line(texts.SHOP, 44, align="center", bold=True, gap=8)
    for line in texts.SHOP_ADDRESS:
        sheet.line(line, 24, align="center", gap=4)
    sheet.y += 22
    sheet.row([(sheet.left, "ls", texts.RECEIPT[0]), (sheet.right, "rs", texts.RECEIPT[1])], 24)
    sheet.y += 18
    for block, size, bold in (
        (texts.RECEIPT_ITEMS, 27, False),
        (texts.RECEIPT_SUMS, 27, False),
        (texts.RECEIPT_TOTAL, 36, True),
        (texts.RECEIPT_PAID, 27, False),
    ):
        sheet.rule(gap=20, dash=8)
        for label, amount in block:
            cells = [(sheet.left, "ls", label), (sheet.right, "rs", amount)]
            sheet.row(cells, size, bold=bold, gap=12)
        sheet.y += 10
    sheet.rule(gap=34, dash=8)
    for line in texts.RECEIPT_THANKS:
        sheet.line(line, 25, align="center", gap=8)
    sheet.image = scanned(sheet.image, seed=2, tilt=0.6, paper=246, noise=22)
    return sheet


def _agreement() -> list[Sheet]:
    sheets = []
    for number, clauses in enumerate(texts.AGREEMENT_PAGES, 1):
        sheet = Sheet(_A4, margin=150, mode="L", ink=30)
        sheet.y = 170
        if number == 1:
            sheet.line(texts.AGREEMENT_TITLE, 44, align="center", bold=True, gap=40)
            sheet.paragraph(texts.AGREEMENT_OPENING, 25, gap=36)
        for heading, clause in clauses:
            sheet.line(heading, 27, bold=True, gap=10)
            sheet.paragraph(clause, 25, gap=30, indent=36)
        if number == len(texts.AGREEMENT_PAGES):
            _signatures(sheet)
        sheet.y = _A4[1] - 130
        sheet.line(f"Page {number} of {len(texts.AGREEMENT_PAGES)}", 20, align="center")
        tilt = 0.35 if number % 2 else -0.3
        sheet.image = scanned(sheet.image, seed=number, tilt=tilt, paper=244, noise=26)
        sheets.append(sheet)
    return sheets


def _signatures(sheet: Sheet) -> None:
    sheet.y += 150
    middle = (sheet.left + sheet.right) // 2
    for start, end in ((sheet.left, middle - 60), (middle + 60, sheet.right)):
        sheet.draw.line([(start, sheet.y), (end, sheet.y)], fill=60, width=2)
    sheet.y += 10
    left, right = texts.AGREEMENT_SIGNED
    sheet.row([(sheet.left, "ls", left), (middle + 60, "ls", right)], 22)


def _invoice() -> Sheet:
    sheet = Sheet(_A4, margin=110)
    width = sheet.right - sheet.left
    sheet.row([(sheet.left, "ls", texts.SELLER), (sheet.right, "rs", "INVOICE")], 42, bold=True)
    sheet.y += 14
    for left, right in texts.INVOICE_HEAD:
        sheet.row([(sheet.left, "ls", left), (sheet.right, "rs", right)], 23, gap=8)
    sheet.y += 46
    for line in texts.INVOICE_BUYER:
        sheet.line(line, 23, gap=8)
    sheet.y += 50
    edges = [sheet.left + round(width * part) for part in (0, 0.09, 0.56, 0.68, 0.84, 1)]
    anchors = ("ls", "ls", "rs", "rs", "rs")
    spots = [
        edges[i] + 14 if anchor == "ls" else edges[i + 1] - 14 for i, anchor in enumerate(anchors)
    ]
    top, height = sheet.y, 58
    sheet.draw.rectangle([sheet.left, top, sheet.right, top + height], fill=(228, 233, 240))
    for number, cells in enumerate(texts.INVOICE_ROWS):
        sheet.y = top + number * height + 14
        sheet.row(list(zip(spots, anchors, cells, strict=True)), 24, bold=number == 0)
    bottom = top + len(texts.INVOICE_ROWS) * height
    for y in range(top, bottom + 1, height):
        sheet.draw.line([(sheet.left, y), (sheet.right, y)], fill=_FAINT, width=2)
    for x in edges:
        sheet.draw.line([(x, top), (x, bottom)], fill=_FAINT, width=2)
    sheet.y = bottom + 24
    for label, amount in texts.INVOICE_SUMS:
        last = label == texts.INVOICE_SUMS[-1][0]
        sheet.row([(edges[4] - 14, "rs", label), (spots[4], "rs", amount)], 25, bold=last, gap=14)
    sheet.y += 60
    sheet.paragraph(texts.INVOICE_TERMS, 22)
    return sheet


def _korean_page(font: Path) -> Sheet:
    sheet = Sheet(_A4, margin=130, font=font)
    sheet.line(texts.KOREAN_LIBRARY, 34, bold=True, ink=(32, 64, 110), gap=6)
    sheet.line(texts.KOREAN_ADDRESS, 20, ink=_FAINT, gap=18)
    sheet.rule(gap=46, width=3)
    sheet.line(texts.KOREAN_DATE, 23, align="right", gap=26)
    sheet.line(texts.KOREAN_TITLE, 44, bold=True, gap=30)
    for heading, paragraphs in texts.KOREAN_SECTIONS:
        if heading:
            sheet.line(heading, 29, bold=True, gap=14)
        for paragraph in paragraphs:
            sheet.paragraph(paragraph, 25, gap=28)
    return sheet


def _png(image: Image.Image) -> bytes:
    target = BytesIO()
    image.save(target, "PNG", dpi=(_DPI, _DPI))
    return target.getvalue()


def _pdf(images: list[Image.Image], dpi: int) -> bytes:
    epoch = time.gmtime(0)  # else each run writes another date, and other bytes
    target = BytesIO()
    images[0].save(
        target,
        "PDF",
        save_all=True,
        append_images=images[1:],
        resolution=dpi,
        quality=80,
        creationDate=epoch,
        modDate=epoch,
    )
    return target.getvalue()


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
