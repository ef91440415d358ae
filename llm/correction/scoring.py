"""Whether a correction was one: both texts against the one that people have accepted."""

from __future__ import annotations

from typing import Any

from llm.models import PageFix
from ocr.models import PageResult, PageReview
from ocr.quality_rows import RULES
from ocr.review_blocks import review_text
from ocr.scoring import count


def page_counts(page: PageFix) -> tuple[int, int, int] | None:
    """(characters of truth, errors before, errors after); None where no text was accepted."""
    truth = accepted_text(page.result)
    if truth is None:
        return None
    before = count(truth, _text(page.result.lines, page.result), **RULES)
    after = count(truth, _text(fixed(page), page.result), **RULES)
    return before.characters, before.errors, after.errors


def fixed(page: PageFix) -> list[dict[str, Any]]:
    """The result's lines with the changes that were not refused."""
    changes = {line["line"]: line["after"] for line in page.lines if not line["refused"]}
    return [
        {**line, "text": changes.get(number, line["text"])}
        for number, line in enumerate(page.result.lines)
    ]


def accepted_text(result: PageResult) -> str | None:
    """What people have accepted as the page's text, the latest of it."""
    reviews = PageReview.objects.accepted().filter(result__page=result.page_id)
    return reviews.order_by("-accepted_at").values_list("text", flat=True).first()


def _text(lines: list[dict[str, Any]], result: PageResult) -> str:
    return review_text(lines, result.blocks)
