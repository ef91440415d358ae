"""Lines of goods: rows that end in a sum, above the totals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm.extraction.amounts import amounts_in
from llm.extraction.base import TextLine
from llm.extraction.fields import Field, number, properties_of, resolved, types_of
from llm.extraction.sheet import Sheet

_TOTALS = re.compile(
    r"total|tota1|합\s*계|소\s*계|총\s*액|부\s*가\s*세|과\s*세|결\s*제|공\s*급\s*가|세\s*액|\bcash\b|\bchange\b|rounding|"
    r"discount|\bnet\b|\bgst\b|\bvat\b|\btax\b|balance|subtotal",
    re.IGNORECASE,
)
# Above the items, what their columns are called.
_HEADS = re.compile(
    r"(qty|quantity|price|수\s*량|단\s*가|descript\w*)\W.*(price|amount|total|rm|금\s*액)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"(?:^|\s)(\d{1,4})\s*(?:x|×|pcs?|ea|개|@)(?=\s|$|\d)", re.IGNORECASE)  # noqa: RUF001
_NAMES = {
    "name": {
        "name",
        "description",
        "item",
        "product",
        "title",
        "품명",
        "상품명",
        "품목",
        "이름",
        "내역",
    },
    "quantity": {"quantity", "qty", "count", "수량"},
    "unit_price": {"unit price", "price", "rate", "price each", "단가"},
    "amount": {"amount", "total", "line total", "sum", "total price", "subtotal", "금액", "합계"},
}


def find_items(
    sheet: Sheet, field: Field, root: Mapping[str, Any]
) -> list[tuple[dict[str, Any], tuple[TextLine, ...]]]:
    """Each item as the schema of the array's items has it, with the lines it was taken from."""
    own = resolved(field.schema.get("items", {}), root)
    parts = {part.name: (_part(part.words), part) for part in properties_of(own, root)}
    found = []
    texts: list[tuple[str, tuple[TextLine, ...]]] = []
    for row in sheet.rows:
        if _TOTALS.search(row.text):
            if found:
                break
            texts = []
            continue
        sums = sheet.amounts(row.text)
        if _HEADS.search(row.text):
            found, texts = [], []
            continue
        if not sums or re.search(r"[:：]\s", row.text):  # noqa: RUF001 (full-width colon)
            texts = [(row.text, row.lines)]
            continue
        head = row.text[: sums[0].start]
        name = _name(head)
        lines = row.lines
        if sum(letter.isalpha() for letter in name) < 3 and texts:
            name, lines = _name(texts[-1][0]), (*texts[-1][1], *row.lines)
        texts = []
        if sum(letter.isalpha() for letter in name) < 3:
            continue
        count = (
            _COUNT.search(row.text)
            or re.search(r"\s(\d{1,3}(?:,\d{3})+|\d{1,4})\s*$", head)
            or re.match(r"\s*(\d{1,3})\s+(?=\D)", head)
        )
        values = {
            "name": name,
            "quantity": int(count[1].replace(",", "")) if count else None,
            "unit_price": sums[-2].value if len(sums) > 1 else None,
            "amount": sums[-1].value,
        }
        found.append(({key: _typed(values, *part) for key, part in parts.items()}, lines))
    return found


def _part(words: str) -> str:
    return next((part for part, names in _NAMES.items() if words in names), "")


def _typed(values: Mapping[str, Any], part: str, field: Field) -> Any:
    value = values.get(part)
    types = types_of(field.schema)
    if value is None:
        return None
    if types & {"number", "integer"}:
        amounts = amounts_in(str(value))
        return number(amounts[-1].value, types) if amounts else None
    return str(value)


def _name(text: str) -> str:
    """Without the running number, the article's code and the count in front."""
    text = re.sub(r"^\s*(?:\d{6,}|\d{1,3}[.)]?)\s+", "", text)
    text = re.sub(r"\s+(?:\d{1,3}(?:,\d{3})+|\d{1,4})\s*[x×@]?\s*$", "", text, flags=re.I)  # noqa: RUF001
    return text.strip(" .:-")
