"""Dates and times as they are printed, in English, Malay and Korean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januari",
            "feb february februari",
            "mar march mac",
            "apr april",
            "may mei",
            "jun june",
            "jul july julai",
            "aug august ogos",
            "sep sept september",
            "oct october oktober",
            "nov november",
            "dec december disember",
        ),
        1,
    )
    for name in names.split()
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_PARTS = re.compile(
    rf"""(?<![\d.,])(?:
      (?P<y1>(?:19|20)\d\d)\s?[-./년]\s?(?P<m1>\d{{1,2}})\s?[-./월]\s?(?P<d1>\d{{1,2}})\s?[일.]?
    | (?P<y4>\d\d)년\s?(?P<m4>\d{{1,2}})월\s?(?P<d4>\d{{1,2}})일?
    | (?P<a>\d{{1,2}})\s?(?P<sep>[-./])\s?(?P<b>\d{{1,2}})\s?(?P=sep)\s?(?P<y2>(?:19|20)\d\d|\d\d)
    | (?P<d3>\d{{1,2}})(?:st|nd|rd|th)?[\s./-]?(?P<m3>{_MONTH})\.?,?[\s./-]?
      (?P<y3>(?:19|20)\d\d|\d\d)
    | (?P<m5>{_MONTH})\.?\s?(?P<d5>\d{{1,2}})(?:st|nd|rd|th)?,?\s?(?P<y5>(?:19|20)\d\d)
    | (?P<y6>20\d\d)(?P<m6>0[1-9]|1[0-2])(?P<d6>[0-2]\d|3[01])(?=\b)
    | (?P<d7>[0-2]\d|3[01])(?P<m7>0[1-9]|1[0-2])(?P<y7>20[0-4]\d)(?=\s|$)
    )(?!\d)""",
    re.VERBOSE | re.IGNORECASE,
)
_TIME = re.compile(
    r"(?<![\d:])([01]?\d|2[0-3])\s?[:시]\s?([0-5]\d)(?:\s?[:분]\s?([0-5]\d)초?)?\s?([ap]\.?m\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A date and where it stands; `sure` is False for eight digits in a row."""

    value: date
    start: int
    end: int
    sure: bool = True


def dates_in(text: str, *, month_first: bool = False) -> list[Found]:
    """The dates of a text from left to right; 3/4/2018 is April unless `month_first`."""
    found = []
    for match in _PARTS.finditer(text):
        value = _date(match.groupdict(), month_first)
        if value is not None:
            sure = match["y6"] is None and match["y7"] is None
            found.append(Found(value, match.start(), match.end(), sure))
    return found


def parse_date(text: str, *, month_first: bool = False) -> date | None:
    """The first date of a text."""
    found = dates_in(text, month_first=month_first)
    return found[0].value if found else None


def month_comes_first(texts: Iterable[str]) -> bool:
    """Whether a document writes 3/25/2018: only a day over 12 tells."""
    first = second = 0
    for text in texts:
        for match in _PARTS.finditer(text):
            if match["a"]:
                first += int(match["a"]) > 12
                second += int(match["b"]) > 12
    return second > first


def times_in(text: str) -> list[tuple[str, int, int]]:
    """(HH:MM or HH:MM:SS on the 24-hour clock, start, end) of the times of a text."""
    found = []
    for match in _TIME.finditer(text):
        hour = int(match[1])
        half = (match[4] or "").casefold()[:1]
        if half == "p" and hour < 12:
            hour += 12
        elif half == "a" and hour == 12:
            hour = 0
        seconds = f":{match[3]}" if match[3] else ""
        found.append((f"{hour:02}:{match[2]}{seconds}", match.start(), match.end()))
    return found


def _date(parts: dict[str, str | None], month_first: bool) -> date | None:
    if parts["a"]:
        a, b, year = int(parts["a"]), int(parts["b"] or 0), parts["y2"] or ""
        day, month = (b, a) if (month_first and a <= 12) or b > 12 else (a, b)
        found = _made(year, month, day)
        # 18-11-05 is written by those who put the year first, too: only where nothing else fits.
        return found or (_made(str(a), b, int(year)) if len(year) == 2 else None)
    for number in "1345":
        if parts[f"y{number}"]:
            month_text = parts[f"m{number}"] or ""
            month = _MONTHS.get(month_text.casefold()) or int(month_text)
            return _made(parts[f"y{number}"] or "", month, int(parts[f"d{number}"] or 0))
    number = "6" if parts["y6"] else "7"
    return _made(
        parts[f"y{number}"] or "", int(parts[f"m{number}"] or 0), int(parts[f"d{number}"] or 0)
    )


def _made(year: str, month: int, day: int) -> date | None:
    """Two digits are of this century up to 69, as in `strptime`."""
    full = int(year) if len(year) == 4 else int(year) + (2000 if int(year) < 70 else 1900)
    try:
        return date(full, month, day)
    except ValueError:
        return None
