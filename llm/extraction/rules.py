"""The engine that needs no model: labels, patterns, and where things stand on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

from llm.extraction import money, parties
from llm.extraction.base import Extraction, PageText, Task, TextLine
from llm.extraction.dates import dates_in, times_in
from llm.extraction.fields import (
    DEEPEST,
    Field,
    Path,
    coerced,
    nullable,
    number,
    pointer,
    problems_of,
    properties_of,
    resolved,
)
from llm.extraction.items import find_items
from llm.extraction.kinds import Kind, kind_of, labels_of
from llm.extraction.sheet import Sheet, label_pattern, lines_at, sheet_of, up_to_label

_PATTERNS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"),
    "website": re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE),
    "registration_number": re.compile(
        r"(?<!\d)\d{3}-\d{2}-\d{5}(?!\d)|(?<![\dA-Z])[A-Z]{0,2}\d{5,12}\s?-\s?[A-Z](?![A-Za-z])"
    ),
    "id_number": re.compile(r"(?<!\d)\d{6}-[1-4*]\d{0,6}\*{0,6}(?!\d)"),
    "phone": re.compile(
        r"(?<![\d-])(?:\+\d{1,3}[\s-]?)?\(?0\d{1,3}\)?[\s.-]?\d{3,4}[\s.-]?\d{3,4}(?!\d)"
    ),
}
_CODE = re.compile(r"[A-Za-z가-힣]{0,6}[-/]?[\w/-]*\d[\w/-]*")
# In groups: GB29 NWBK 6016 1331.
_LONG_CODE = re.compile(_CODE.pattern + r"(?: \d[\w-]*| [A-Z]{2,4}(?= \d))*")
_PERSON = re.compile(r"[가-힣]{2,4}(\s?\([\u4e00-\u9fff]{2,4}\))?")
_DOCUMENT = re.compile(
    r"주민등록증|자동차\s?운전면허증|운전면허증|외국인등록증|여권|사업자등록증|(전자)?세금계산서|영수증|"
    r"\bpassport\b|\bdriv(ing|er'?s)\s+licen[cs]e\b|\bidentity\s+card\b|\bresidence\s+permit\b|"
    r"\b(tax\s+)?invoice\b|\breceipt\b",
    re.IGNORECASE,
)
_OTHER_DATES = re.compile(r"due|expir|valid|birth|print|prn|until|만료|기한|생년", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Value:
    """A field's value, already of its type, and the lines that it was taken from."""

    value: Any
    lines: tuple[TextLine, ...] = ()


class RulesEngine:
    """Fills any schema by the names, titles, descriptions and formats of its fields."""

    name: ClassVar[str] = "rules"

    def extract(self, pages: Sequence[PageText], task: Task) -> Extraction:
        """What is not found is null where the schema allows it, else left out."""
        sources: dict[str, tuple[TextLine, ...]] = {}
        values = _object(sheet_of(pages), task.schema, task.schema, (), sources)
        return Extraction(values, problems_of(values, task.schema), sources=sources)


def _object(
    sheet: Sheet,
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    path: Path,
    sources: dict[str, tuple[TextLine, ...]],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for own in properties_of(schema, root):
        field = Field((*path, own.name), own.schema, own.required)
        if "object" in field.types and len(path) < DEEPEST:
            values[field.name] = _object(sheet, field.schema, root, field.path, sources)
            continue
        kind = kind_of(field)
        if "array" in field.types:
            values[field.name] = _array(sheet, field, root, sources)
            continue
        found = _found(sheet, field, kind)
        if found is not None:
            values[field.name] = found.value
            sources[pointer(field.path)] = found.lines
        elif nullable(field.schema):
            values[field.name] = None
    return values


def _array(
    sheet: Sheet, field: Field, root: Mapping[str, Any], sources: dict[str, tuple[TextLine, ...]]
) -> list[Any]:
    if "object" not in Field(("",), resolved(field.schema.get("items", {}), root), False).types:
        return []
    rows = []
    for values, lines in find_items(sheet, field, root):
        for name, value in values.items():
            if value is not None:
                sources[pointer((*field.path, len(rows), name))] = lines
        rows.append(values)
    return rows


def _found(sheet: Sheet, field: Field, kind: Kind | None) -> Value | None:
    labels = labels_of(field, kind)
    if "enum" in field.schema and (kind is None or kind.sort != "currency"):
        return _choice(sheet, field, labels)
    if "pattern" in field.schema:
        return _pattern(sheet, re.compile(field.schema["pattern"]), labels)
    if kind is None:
        if field.schema.get("format") == "date":
            return _date(sheet, field, labels, needs_label=field.words != "date")
        if field.schema.get("format") == "email":
            return _pattern(sheet, _PATTERNS["email"], labels)
        if field.types & {"number", "integer"}:
            return _sum(field, money.find_sum(sheet, labels)) or _plain_number(sheet, field, labels)
        return _text(sheet, field, labels)
    return _FINDERS[kind.sort](sheet, field, kind, labels)


# -- kinds of fields ------------------------------------------------------------------------------


def _money(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    if kind.name == "total":
        return _sum(field, money.find_total(sheet))
    return _sum(field, money.find_sum(sheet, labels))


def _dated(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    generic = kind.name in ("date", "issue_date")
    found = _date(sheet, field, labels, needs_label=not generic)
    if found is None and kind.name == "birth_date":
        return _birth_date(sheet, field)
    return found


def _timed(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    for row in sheet.rows:
        for text, start, end in times_in(row.text):
            return Value(text, lines_at(row, start, end))
    return None


def _code(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    pattern = _PATTERNS.get(kind.name)
    if pattern is not None and (found := _pattern(sheet, pattern, labels)):
        return found
    if kind.name in ("email", "website"):
        return None
    look = _LONG_CODE if kind.name in ("id_number", "account_number") else _CODE
    for labelled in sheet.labelled(labels):
        for hit in labelled.hits:
            match = look.search(hit.text[:40])
            # A code stands right behind its label, not somewhere on the row.
            if not match or match.start() > 12 or len(match[0]) < 2:
                continue
            code = match[0].strip("-/")
            whole = any(one.end - one.start == len(code) for one in dates_in(code))
            if not (whole or times_in(hit.text[: match.end() + 3])):
                return Value(code, hit.lines)
    return None


def _phone(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    digits = re.compile(r"[+(]?\d[\d\s().-]{6,}\d")
    for labelled in sheet.labelled(labels):
        match = digits.search(labelled.beside.text)
        if match:
            return Value(" ".join(match[0].split()), labelled.beside.lines)
    if kind.name == "fax":
        return None
    return _pattern(sheet, _PATTERNS["phone"], ())


def _place(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    found = parties.find_address(sheet, labels)
    return Value(found.text, found.lines) if found else None


def _named(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    if kind.name == "company":
        found = parties.find_company(sheet, kind.labels)
        return Value(found.text, found.lines) if found else None
    if kind.name == "document_type":
        return _pattern(sheet, _DOCUMENT, ())
    beside = _text(sheet, field, labels)
    return _unlabelled_person(sheet) if beside is None and kind.name == "person" else beside


def _unlabelled_person(sheet: Sheet) -> Value | None:
    """A row of a few Hangul syllables and nothing else, as on a resident's card."""
    for row in sheet.rows:
        text = row.text.strip()
        if _PERSON.fullmatch(text) and not (_DOCUMENT.search(text) or text == "대한민국"):
            return Value(text, row.lines)
    return None


def _currency(sheet: Sheet, field: Field, kind: Kind, labels: tuple[str, ...]) -> Value | None:
    found = money.find_currency(sheet)
    if found is None or ("enum" in field.schema and found[0] not in field.schema["enum"]):
        return None
    return Value(*found)


_FINDERS: Mapping[str, Callable[[Sheet, Field, Kind, tuple[str, ...]], Value | None]] = {
    "money": _money,
    "date": _dated,
    "time": _timed,
    "code": _code,
    "phone": _phone,
    "place": _place,
    "text": _named,
    "currency": _currency,
    "items": lambda *_: None,
}

# -- what they share ------------------------------------------------------------------------------


def _sum(field: Field, found: money.Sum | None) -> Value | None:
    if found is None:
        return None
    value = _as_type(found.value, field)
    return None if value is None else Value(value, found.lines)


def _as_type(value: Decimal, field: Field) -> Any:
    if field.types & {"number", "integer"}:
        return number(value, field.types)
    return str(value)


def _plain_number(sheet: Sheet, field: Field, labels: Iterable[str]) -> Value | None:
    for labelled in sheet.labelled(labels):
        for hit in labelled.hits:
            value = coerced(hit.text, field.schema)
            if value is not None:
                return Value(value, hit.lines)
    return None


def _date(sheet: Sheet, field: Field, labels: Sequence[str], *, needs_label: bool) -> Value | None:
    """The date with the best reasons: a label before it, four digits of year, a time beside it."""
    looks = [label_pattern(label) for label in labels]
    best: tuple[float, Value] | None = None
    for number_, row in enumerate(sheet.rows):
        text = row.text
        above = sheet.rows[number_ - 1].text if number_ else ""
        for found in dates_in(text, month_first=sheet.month_first):
            before = text[: found.start]
            score = 1.0 * found.sure - 0.01 * number_
            label = next((n for n, look in enumerate(looks) if look.search(before)), None)
            if label is None and len(before.strip()) < 3:
                label = next((n for n, look in enumerate(looks) if look.search(above)), None)
            if label is not None:
                score += 3 - 0.1 * label
            elif needs_label:
                continue
            elif _OTHER_DATES.search(before):
                score -= 2
            score += 0.5 * bool(times_in(text)) - 3 * (not 1950 <= found.value.year <= 2100)
            if best is None or score > best[0]:
                written = _written(field, found.value, text[found.start : found.end])
                best = score, Value(written, lines_at(row, found.start, found.end))
    return best[1] if best else None


def _written(field: Field, value: date, text: str) -> str:
    """ISO where the schema asks for a date; else in the page's own words."""
    return value.isoformat() if field.schema.get("format") == "date" else text


def _birth_date(sheet: Sheet, field: Field) -> Value | None:
    """The first six digits of a Korean resident's number; the seventh tells the century."""
    for row in sheet.rows:
        match = re.search(r"(?<!\d)(\d{2})(\d{2})(\d{2})-([1-4])", row.text)
        if match:
            century = 1900 if match[4] in "12" else 2000
            try:
                born = date(century + int(match[1]), int(match[2]), int(match[3]))
            except ValueError:
                continue
            return Value(born.isoformat(), lines_at(row, match.start(), match.end()))
    return None


def _pattern(sheet: Sheet, pattern: re.Pattern[str], labels: Iterable[str]) -> Value | None:
    """The first match beside or below a label, else the first anywhere."""
    for labelled in sheet.labelled(labels):
        for hit in labelled.hits:
            match = pattern.search(hit.text)
            if match:
                return Value(match[0], hit.lines)
    for row in sheet.rows:
        if match := pattern.search(row.text):
            return Value(match[0], lines_at(row, match.start(), match.end()))
    return None


def _choice(sheet: Sheet, field: Field, labels: Sequence[str]) -> Value | None:
    """The option that stands beside the label, else the only one that the page names."""
    options = [one for one in field.schema["enum"] if isinstance(one, str) and one]
    for labelled in sheet.labelled(labels):
        for hit in labelled.hits:
            for option in options:
                if label_pattern(option).search(hit.text):
                    return Value(option, hit.lines)
    named = [
        Value(option, lines_at(row, match.start(), match.end()))
        for option in options
        for row in sheet.rows
        if (match := label_pattern(option).search(row.text))
    ]
    return named[0] if len({one.value for one in named}) == 1 else None


def _text(sheet: Sheet, field: Field, labels: Iterable[str]) -> Value | None:
    """The words behind a label, up to the next label; else those below it."""
    for labelled in sheet.labelled(labels):
        for hit in labelled.hits:
            text = up_to_label(hit.text)
            # What stands below a label may be the next label.
            if not text or (hit is labelled.below and re.search(r"[:：]", text)):  # noqa: RUF001
                continue
            value = coerced(text, field.schema)
            if value is not None:
                return Value(value, hit.lines)
    return None
