"""Where in a document a value stands: its page, its lines, and a box around its words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from rapidfuzz import fuzz

from llm.extraction.amounts import amounts_in
from llm.extraction.base import PageText, Polygon, TextLine
from llm.extraction.dates import dates_in, month_comes_first, parse_date
from llm.extraction.fields import Field, Path, leaves, pointer
from llm.extraction.kinds import kind_of, labels_of
from llm.extraction.rows import rows_of
from llm.extraction.sheet import label_pattern

# Of 100: below it two texts are no longer the same with some letters misread.
FUZZY_SCORE = 82
# Letters and digits: shorter values are found by chance.
SHORTEST_FUZZY = 5
EXACT, NORMALISED, FUZZY = "exact", "normalised", "fuzzy"


@dataclass(frozen=True, slots=True)
class Place:
    """Characters [start, end) of a line."""

    line: TextLine
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Match:
    """Places that together say a value, how well they do, and whether a label says so too."""

    places: tuple[Place, ...]
    how: str
    score: float = 1.0
    labelled: bool = False


@dataclass(slots=True)
class _Page:
    """A page's letters and digits in one string, with where each of them stands."""

    page: PageText
    letters: str = ""
    at: list[tuple[int, int]] = field(default_factory=list)
    row_text: dict[int, str] = field(default_factory=dict)


def locate(
    pages: Sequence[PageText],
    values: Mapping[str, Any],
    sources: Mapping[str, tuple[TextLine, ...]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Evidence by JSON pointer, for the values that can be found; see `ExtractionJob.evidence`.

    `sources`: lines that the engine itself named, which go before any others.
    """
    finder = Finder(pages)
    found = {}
    for path, value in leaves(values):
        if value in (None, "") or isinstance(value, bool):
            continue
        key = pointer(path)
        match = finder.find(value, path, (sources or {}).get(key, ()))
        if match is not None:
            found[key] = evidence_json(match)
    return found


class Finder:
    """Looks for values in one document."""

    def __init__(self, pages: Sequence[PageText]) -> None:
        self._pages = [_page(page) for page in pages]
        self._month_first = month_comes_first(line.text for page in pages for line in page.lines)

    def find(self, value: Any, path: Path, sources: Sequence[TextLine] = ()) -> Match | None:
        """The likeliest place of a value: as it is, by its meaning, then nearly so."""
        if sources:
            own = {(line.page, line.index) for line in sources}
            match = self._best(value, path, own)
            if match is not None:
                return match
            whole = tuple(Place(line, 0, len(line.text)) for line in sources)
            return Match(whole, NORMALISED)
        return self._best(value, path, None)

    def _best(self, value: Any, path: Path, own: set[tuple[int, int]] | None) -> Match | None:
        for matches in (
            self._exact(value, own),
            self._meant(value, own),
            self._letters(value, own),
        ):
            if matches:
                return self._labelled(matches, path)
        return self._nearly(value, own)

    def _exact(self, value: Any, own: set[tuple[int, int]] | None) -> list[Match]:
        text = value if isinstance(value, str) else ""
        if not text:
            return []
        return [
            Match((Place(line, start, start + len(text)),), EXACT)
            for line in self._lines(own)
            if (start := _whole_word(line.text, text)) >= 0
        ]

    def _meant(self, value: Any, own: set[tuple[int, int]] | None) -> list[Match]:
        """Dates and numbers, however they are written."""
        wanted = _meaning(value)
        if isinstance(wanted, date):
            return [
                Match((Place(line, one.start, one.end),), NORMALISED)
                for line in self._lines(own)
                for one in dates_in(line.text, month_first=self._month_first)
                if one.value == wanted
            ]
        if isinstance(wanted, Decimal):
            return [
                Match(
                    (Place(line, one.start, one.end),),
                    EXACT if line.text[one.start : one.end] == str(value) else NORMALISED,
                )
                for line in self._lines(own)
                for one in amounts_in(line.text)
                if abs(one.value) == abs(wanted)
            ]
        return []

    def _letters(self, value: Any, own: set[tuple[int, int]] | None) -> list[Match]:
        """Texts without their case, blanks and punctuation; over several lines, too."""
        letters, _at = _letters_of(value) if isinstance(value, str) else ("", [])
        if len(letters) < 2:
            return []
        found = []
        for page in self._pages:
            start = page.letters.find(letters)
            while start >= 0:
                places = _places(page, start, start + len(letters))
                if _ends_words(places) and _within(places, own):
                    found.append(Match(places, NORMALISED))
                start = page.letters.find(letters, start + 1)
        return found

    def _nearly(self, value: Any, own: set[tuple[int, int]] | None) -> Match | None:
        letters, _at = _letters_of(value) if isinstance(value, str) else ("", [])
        # Another date or sum is none that was misread.
        if len(letters) < SHORTEST_FUZZY or _meaning(value) is not None:
            return None
        best: Match | None = None
        for page in self._pages:
            found = fuzz.partial_ratio_alignment(letters, page.letters, score_cutoff=FUZZY_SCORE)
            # A page shorter than the value is the part that is looked for in the other.
            if found is None or len(page.letters) < len(letters):
                continue
            places = _places(page, found.dest_start, found.dest_end)
            score = round(found.score / 100, 3)
            if places and _within(places, own) and (best is None or score > best.score):
                best = Match(places, FUZZY, score)
        return best

    def _labelled(self, matches: list[Match], path: Path) -> Match:
        """The first beside a label of its field; of sums the last, where totals are."""
        name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
        asked = Field((name,), {}, False)
        looks = [label_pattern(label) for label in labels_of(asked, kind_of(asked)) if label]
        for look in looks:
            for match in matches:
                line = match.places[0].line
                page = next(page for page in self._pages if page.page.number == line.page)
                if look.search(page.row_text[line.index]):
                    return Match(match.places, match.how, match.score, labelled=True)
        kind = kind_of(asked)
        return matches[-1] if kind is not None and kind.sort == "money" else matches[0]

    def _lines(self, own: set[tuple[int, int]] | None) -> Iterable[TextLine]:
        for page in self._pages:
            for line in page.page.lines:
                if own is None or (line.page, line.index) in own:
                    yield line


def evidence_json(match: Match) -> dict[str, Any]:
    """Of a match; lines in reading order."""
    return {
        "page": match.places[0].line.page,
        "lines": [place.line.index for place in match.places],
        "polygons": [
            [[round(x, 1), round(y, 1)] for x, y in tight_polygon(place)] for place in match.places
        ],
        "match": match.how,
        "score": match.score,
        "text": " ".join(place.line.text[place.start : place.end] for place in match.places),
    }


def tight_polygon(place: Place) -> Polygon:
    """Around the words of a place where the line knows its words' ends, else around the line."""
    line = place.line
    words, at = [], 0
    for word in line.text.split():
        at = line.text.index(word, at)
        words.append((at, at + len(word)))
        at += len(word)
    if len(words) != len(line.spans) or len(line.polygon) != 4:
        return line.polygon
    inside = [
        span
        for (start, end), span in zip(words, line.spans, strict=True)
        if start < place.end and end > place.start
    ]
    if not inside:
        return line.polygon
    first, last = min(start for start, _end in inside), max(end for _start, end in inside)
    top_left, top_right, low_right, low_left = line.polygon
    return (
        _between(top_left, top_right, first),
        _between(top_left, top_right, last),
        _between(low_left, low_right, last),
        _between(low_left, low_right, first),
    )


def _between(a: tuple[float, float], b: tuple[float, float], share: float) -> tuple[float, float]:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _page(page: PageText) -> _Page:
    found = _Page(page)
    parts = []
    for number, line in enumerate(page.lines):
        letters, at = _letters_of(line.text)
        parts.append(letters)
        found.at.extend((number, place) for place in at)
    found.letters = "".join(parts)
    for row in rows_of(page):
        for line in row.lines:
            found.row_text[line.index] = row.text
    return found


def _letters_of(text: str) -> tuple[str, list[int]]:
    """Letters and digits without case, and for each the character of `text` that it comes from."""
    letters, at = [], []
    for index, character in enumerate(text):
        for one in unicodedata.normalize("NFKC", character).casefold():
            if one.isalnum():
                letters.append(one)
                at.append(index)
    return "".join(letters), at


def _places(page: _Page, start: int, end: int) -> tuple[Place, ...]:
    """The lines that letters [start, end) of a page fall on."""
    ends: dict[int, tuple[int, int]] = {}
    for number, character in page.at[start:end]:
        first, _last = ends.get(number, (character, character))
        ends[number] = (first, character)
    return tuple(
        Place(page.page.lines[number], first, last + 1) for number, (first, last) in ends.items()
    )


def _ends_words(places: tuple[Place, ...]) -> bool:
    """Whether a match begins and ends where words do: "Kim" is not in "Kimberley"."""
    first, last = places[0], places[-1]
    before = first.line.text[first.start - 1 : first.start] if first.start else " "
    after = last.line.text[last.end : last.end + 1] or " "
    return not (before.isalnum() or after.isalnum())


def _whole_word(text: str, part: str) -> int:
    """Where `part` stands in `text` between the ends of words; -1 if nowhere."""
    at = text.find(part)
    while at >= 0:
        before, after = text[at - 1 : at] if at else "", text[at + len(part) : at + len(part) + 1]
        if not (before.isalnum() and part[0].isalnum()) and not (
            after.isalnum() and part[-1].isalnum()
        ):
            return at
        at = text.find(part, at + 1)
    return -1


def _within(places: tuple[Place, ...], own: set[tuple[int, int]] | None) -> bool:
    return own is None or all((one.line.page, one.line.index) in own for one in places)


def _meaning(value: Any) -> date | Decimal | None:
    if isinstance(value, int | float):
        return Decimal(str(value))
    if isinstance(value, str) and len(value) <= 24:
        found = parse_date(value)
        if found is not None:
            return found
        amounts = amounts_in(value)
        if len(amounts) == 1 and amounts[0].end - amounts[0].start == len(value.strip()):
            return amounts[0].value
    return None
