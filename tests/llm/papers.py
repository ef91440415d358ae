"""Papers whose text is known, as pages: for tests of extraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm.extraction.base import PageText, page_of

HEIGHT, LETTER = 30, 12

RECEIPT = (
    "MILL STREET BAKERY SDN BHD",
    "(519537-X)",
    "12, JALAN KENANGA 3,",
    "TAMAN MELATI, 53100 KUALA LUMPUR",
    "TEL: 03-4107 2211",
    "Receipt No: R-00418   Date: 12/03/2025 08:47",
    ("2 Sourdough loaf", "9.60"),
    ("1 Apple cake", "14.50"),
    ("Subtotal", "24.10"),
    ("GST 6%", "1.45"),
    ("Total (RM)", "25.55"),
    ("Cash", "30.00"),
    ("Change", "4.45"),
)
KOREAN_RECEIPT = (
    "상호명: 한강서점",
    "사업자등록번호: 123-45-67890",
    "대표자: 김민지  전화: 02-123-4567",
    "주소: 서울특별시 마포구 독막로 12길 5",
    "거래일시: 2025-03-12 14:21",
    ("공급가액", "20,000"),
    ("부가세", "2,000"),
    ("합 계", "22,000원"),
    ("받은금액", "30,000"),
    ("거스름돈", "8,000"),
)


def lines_of(texts: Sequence[str | tuple[str, ...]]) -> list[dict[str, Any]]:
    """Lines as a result keeps them, one below the other; a tuple's parts stand side by side."""
    lines = []
    for number, row in enumerate(texts):
        parts = (row,) if isinstance(row, str) else row
        for column, text in enumerate(parts):
            left, top = 20 + 400 * column, 20 + HEIGHT * number
            right, low = left + LETTER * len(text), top + 22
            lines.append(
                {
                    "text": text,
                    "confidence": 0.98,
                    "polygon": [[left, top], [right, top], [right, low], [left, low]],
                    "spans": spans_of(text),
                }
            )
    return lines


def spans_of(text: str) -> list[list[float]]:
    """Where each word begins and ends, all letters being of one width."""
    spans, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        spans.append([at / len(text), (at + len(word)) / len(text)])
        at += len(word)
    return spans


def pages_of_texts(*pages: Sequence[str | tuple[str, ...]]) -> list[PageText]:
    return [
        page_of(number, lines_of(texts), size=(900, 1200)) for number, texts in enumerate(pages, 1)
    ]
