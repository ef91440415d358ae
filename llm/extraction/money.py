"""Sums on receipts and invoices: the total by votes, all others by their labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llm.extraction.amounts import Amount, currency_code
from llm.extraction.base import TextLine
from llm.extraction.rows import Row
from llm.extraction.sheet import Sheet, label_pattern, lines_at

# What a row says of the sum on it, the first that fits; negative ones hold no total.
_WEIGHTS = (
    (re.compile(r"sub\s*-?\s*total|소\s*계|공\s*급\s*가", re.I), 1.6),
    (
        re.compile(
            r"q[tu]y|quantity|\bitem|saving|discount|point|수\s*량|할\s*인|과\s*세|면\s*세", re.I
        ),
        0,
    ),
    (re.compile(r"\bexcl|\bbefore|excluding|excluded", re.I), 0),
    (re.compile(r"total\W*(gst|tax|vat|disc)|부\s*가|세\s*액", re.I), 0),
    (
        re.compile(
            r"total\W*(amt|amount)?\W*(rounded|payable|due)|round\w*\W*\w?\W*total|grand\W*total|"
            r"nett?\W*total|(amount|balance)\W*(due|payable)|total\W*to\W*pay|"
            r"총\s*합\s*계|결\s*제\s*금\s*액|받\s*을\s*금\s*액|청\s*구\s*금\s*액|총\s*액|총\s*금\s*액",
            re.I,
        ),
        5,
    ),
    (re.compile(r"rounding|round\s*adj|gst\s*summ|tax\s*code|거\s*스\s*름", re.I), 0),
    (re.compile(r"\btota?[l1i]\b|t[o0]ta[l1i]|합\s*계|총\s*계|판\s*매\s*금\s*액", re.I), 4),
    (re.compile(r"\bcash\s*change|\bchange|balance", re.I), 0),
    (
        re.compile(
            r"\bcash\b|\bvisa\b|\bmaster|\bpaid\b|\bcard\b|카\s*드|현\s*금|승\s*인\s*금\s*액", re.I
        ),
        1,
    ),
)
_CHANGE = re.compile(r"\bchange\b|거\s*스\s*름|잔\s*돈", re.I)
_CASH = re.compile(r"\bcash\b(?!\s*change)|tendered|받\s*은\s*(금\s*액|돈)|현\s*금", re.I)
_SUMMARY = re.compile(r"summ?ar|tax\W*code|amount\W{0,3}\(?rm\W.*tax", re.I)
# In the table of taxes below the total, "Total" stands for something else.
IN_SUMMARY = 0.3


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of money and the lines that say it."""

    value: Decimal
    lines: tuple[TextLine, ...]
    currency: str = ""


def find_total(sheet: Sheet) -> Sum | None:
    """The sum that most speaks for: labels, equal sums elsewhere, and cash less change."""
    votes: dict[Decimal, float] = {}
    best: dict[Decimal, tuple[float, Sum]] = {}
    summary = False
    for number, row in enumerate(sheet.rows):
        summary = summary or bool(_SUMMARY.search(row.text))
        weight = _weight(row.text)
        if not weight:
            continue
        found, nearby = _sum_of(sheet, number)
        if found is None or found.value <= 0:
            continue
        values = {one.value for one in sheet.amounts(row.text)}
        weight *= (IN_SUMMARY if summary else 1) * (0.5 if len(values) > 1 else 1) * nearby
        votes[found.value] = votes.get(found.value, 0) + weight
        if weight >= best.get(found.value, (0,))[0]:
            best[found.value] = (weight, found)
    given = _paid_less_change(sheet)
    if given is not None and given.value > 0:
        votes[given.value] = votes.get(given.value, 0) + 2
        best.setdefault(given.value, (0, given))
    if not votes:
        return _largest(sheet)
    value = max(votes, key=lambda value: (votes[value], value))
    return best[value][1]


def find_sum(sheet: Sheet, labels: Iterable[str]) -> Sum | None:
    """The sum beside, or else below, the first of the labels that has one."""
    for label in labels:
        look = label_pattern(label)
        for number, row in enumerate(sheet.rows):
            match = look.search(row.text)
            if match is None or _no_sum(row.text, match.end()):
                continue
            found, _near = _sum_of(sheet, number, after=match.end())
            if found is not None:
                return found
    return None


def find_currency(sheet: Sheet) -> tuple[str, tuple[TextLine, ...]] | None:
    """(ISO code, or the sign where that is several countries'; lines) of the commonest currency."""
    seen: dict[str, list[tuple[TextLine, ...]]] = {}
    for row in sheet.rows:
        for amount in sheet.amounts(row.text):
            if amount.currency:
                code = currency_code(amount.currency) or amount.currency
                seen.setdefault(code, []).append(lines_at(row, amount.start, amount.end))
        for match in re.finditer(r"\b(MYR|RM|USD|EUR|GBP|KRW|JPY|SGD)\b", row.text):
            code = currency_code(match[0])
            seen.setdefault(code, []).append(lines_at(row, match.start(), match.end()))
    if not seen:
        return None
    code = max(seen, key=lambda code: len(seen[code]))
    return code, seen[code][0]


def _weight(text: str) -> float:
    return next((weight for look, weight in _WEIGHTS if look.search(text)), 0)


def _no_sum(text: str, end: int) -> bool:
    """ "GST No: 0012" and "Cash Sales No." name something else than a sum."""
    return bool(
        re.match(r"[\W_]*(no\b|id\b|reg|summ|code|incl|sales|cashier)", text[end:], re.IGNORECASE)
    )


def _sum_of(sheet: Sheet, number: int, *, after: int = 0) -> tuple[Sum | None, float]:
    """The last sum of a row, else that of a row below which holds nothing else; how sure it is."""
    row = sheet.rows[number]
    found = [one for one in sheet.amounts(row.text) if one.start >= after]
    if found:
        return _made(row, found[-1]), 1.0
    if re.search(r"\d", row.text[after:]):
        # The sum is here, and was misread.
        return None, 0.0
    for below in sheet.rows[number + 1 : number + 2]:
        amounts = sheet.amounts(below.text)
        if len(amounts) == 1 and not re.search(r"[^\W\d_]{3}", below.text):
            return _made(below, amounts[0]), 0.8
    return None, 0.0


def _made(row: Row, amount: Amount) -> Sum:
    return Sum(amount.value, lines_at(row, amount.start, amount.end), amount.currency)


def _paid_less_change(sheet: Sheet) -> Sum | None:
    cash = _last(sheet, _CASH)
    change = _last(sheet, _CHANGE)
    if cash is None or change is None or change.value >= cash.value:
        return None
    return Sum(cash.value - change.value, cash.lines)


def _last(sheet: Sheet, look: re.Pattern[str]) -> Sum | None:
    found = None
    for number, row in enumerate(sheet.rows):
        if look.search(row.text):
            found = _sum_of(sheet, number)[0] or found
    return found


def _largest(sheet: Sheet) -> Sum | None:
    sums: Sequence[Sum] = [
        _made(row, amount) for row in sheet.rows for amount in sheet.amounts(row.text)
    ]
    return max(sums, key=lambda one: one.value, default=None)
