"""Pages with known text, drawn in real fonts, and how far a reading is from it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from ocr.page_image import PageImage
from ocr.samples import KOREAN_FONT_MISSING, korean_font

ENGLISH = [
    "Invoice No. 2024-0315 issued on 15 March 2024",
    "All human beings are born free and equal in dignity.",
    "Total amount due: 1,234.50 USD including tax",
    "Payment is due within thirty days of receipt.",
]
KOREAN = [
    "대한민국의 모든 국민은 법 앞에 평등하다.",
    "전화번호 02-1234-5678 우편번호 06236",
    "도서관에서 친구와 점심을 먹었다.",
    "결제가 완료되면 확인 메시지를 보내 드립니다.",
]
MIXED = [
    "고객사 Acme Corporation 담당자 김민수 (Manager)",
    "Django 프레임워크와 Python 언어로 개발된 서버",
    "Please contact 고객센터 at 1588-1234 for help",
]
# NanumGothic draws the characters that Korean borrows, which are the traditional ones.
CHINESE = ["發票番號 2024-0315", "合計金額 一千二百元"]


def hangul_font() -> Path:
    """A font with Hangul and Latin letters; the test is skipped where there is none."""
    font = korean_font()
    if font is None:
        pytest.fail(KOREAN_FONT_MISSING) if os.environ.get("CI") else pytest.skip(
            KOREAN_FONT_MISSING
        )
    return font


def paper(lines: list[str], *, size: int = 30, font: Path | None = None) -> PageImage:
    """The lines in black on a white page of A4's proportions, two heights of a letter apart."""
    width = size * 34
    image = Image.new("RGB", (width, max(round(width * 1.3), size * (2 * len(lines) + 4))), "white")
    face = ImageFont.truetype(font or hangul_font(), size)
    pen = ImageDraw.Draw(image)
    for place, text in enumerate(lines):
        pen.text((2 * size, 2 * size * (place + 1)), text, font=face, fill=(20, 20, 20))
    return PageImage(image)


def error_rate(said: str, meant: list[str]) -> float:
    """Errors a character, white space and case aside."""
    one, other = (re.sub(r"\s+", " ", text).strip().casefold() for text in (said, "\n".join(meant)))
    return Levenshtein.distance(one, other) / len(other)
