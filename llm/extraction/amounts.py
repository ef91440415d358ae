"""Sums of money and numbers as they are printed, and as OCR misreads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

# By what each currency is known on paper; the longest first.
CURRENCIES = {
    "KRW": ("KRW", "₩", "￦", "원"),
    "USD": ("USD", "US$"),
    "SGD": ("SGD", "S$"),
    "MYR": ("MYR", "RM"),
    "EUR": ("EUR", "€"),
    "GBP": ("GBP", "£"),
    "JPY": ("JPY", "¥", "円"),
    "CNY": ("CNY", "RMB"),
    "IDR": ("IDR", "Rp"),
    "THB": ("THB", "฿"),
}
_SIGNS = sorted({sign for signs in CURRENCIES.values() for sign in signs} | {"$"}, key=len)[::-1]
_SIGN = "|".join(re.escape(sign) for sign in _SIGNS)
# Letters that OCR takes digits for count where digits or a currency stand beside them.
_DIGIT = "[0-9OoIl]"
_NUMBER = re.compile(
    rf"""(?<![\w.,/:#-])
    (?P<sign>-\s?)?
    (?P<open>\()?
    (?:(?P<currency>{_SIGN}|S(?=\s?\d))\s?)?
    (?P<minus>-\s?)?
    (?P<digits>
        \d{{1,3}}(?:[,.'\s]\d{{3}})+(?:[.,]\s?\d{{1,2}})?(?![\d])
        | {_DIGIT}*\d{_DIGIT}*\s?[.,]\s?{_DIGIT}{{1,3}}(?![\w])
        | [.,]\d{{2}}(?!\d)
        | \d+
    )
    (?(open)\))
    \s?(?P<after>{_SIGN})?
    (?!\s?%|[\w/:#]|-\d)""",
    re.VERBOSE,
)
_LETTERS = str.maketrans("OoIl", "0011")


@dataclass(frozen=True, slots=True)
class Amount:
    """A number in a text: where it stands, what it is, and whether it looks like money."""

    value: Decimal
    start: int
    end: int
    currency: str = ""
    decimals: int = 0

    @property
    def money(self) -> bool:
        return bool(self.currency) or self.decimals == 2


def amounts_in(text: str) -> list[Amount]:
    """The numbers of a text from left to right; dates, times, codes and percentages are none."""
    found = []
    for match in _NUMBER.finditer(text):
        value, decimals = _value(match["digits"])
        if value is None:
            continue
        sign = match["currency"] or match["after"] or ""
        negative = bool(match["sign"] or match["minus"] or match["open"])
        if match["open"] and not (sign or decimals):
            negative = False
        found.append(
            Amount(
                -value if negative else value,
                match.start(),
                match.end(),
                "$" if sign == "S" else sign,
                decimals,
            )
        )
    return found


def parse_amount(text: str) -> Decimal | None:
    """The only number of a text, or its last; None if there is none."""
    found = amounts_in(text.strip())
    return found[-1].value if found else None


def currency_code(sign: str) -> str:
    """ISO 4217 of a sign; "" where it may be several countries' ("$")."""
    for code, signs in CURRENCIES.items():
        if sign.casefold() in (other.casefold() for other in signs):
            return code
    return ""


def _value(digits: str) -> tuple[Decimal | None, int]:
    """(value, decimals). The last point or comma parts off decimals if 1 or 2 digits follow."""
    digits = re.sub(r"\s", "", digits.translate(_LETTERS)).replace("'", "")
    decimals = 0
    last = max(digits.rfind("."), digits.rfind(","))
    if last >= 0:
        after = len(digits) - last - 1
        grouped = after == 3 and (digits.count(digits[last]) > 1 or digits[:last].lstrip("0"))
        if after and not grouped:
            decimals = after
            digits = re.sub("[.,]", "", digits[:last]) + "." + digits[last + 1 :]
        else:
            digits = re.sub("[.,]", "", digits)
    try:
        return Decimal(digits or "x"), decimals
    except InvalidOperation:
        return None, 0
