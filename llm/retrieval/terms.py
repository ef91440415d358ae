"""What lexical search looks for: words, and pairs of characters where words take endings.

Korean sets its particles on the word without a space, and Chinese and Japanese set no spaces: a
run of such characters is taken as all pairs of neighbours, which finds 도서관 in 도서관에서 too
(after Lee and Ahn, Using n-grams for Korean text retrieval, SIGIR 1996). One tokenizer for every
database, so that all of them find the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

# 12,500 and 12500 are the same number.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SPACELESS = (
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f]"
)
_WITHOUT_SPACES = re.compile(_SPACELESS)
_RUNS = re.compile(rf"({_SPACELESS}+)|(?:(?!{_SPACELESS})[^\W_])+")
# What says nothing of what somebody looks for: little words, and Korean endings.
_WEAK = re.compile(
    "[a-z]|an|and|are|as|at|be|by|can|did|do|does|for|from|has|have|how|if|in|is|it|its|not|of|on|"
    "or|our|so|that|the|their|then|there|they|this|to|was|we|were|what|when|where|which|who|why|"
    "will|with|you|your|"
    "에서|으로|에게|까지|부터|에는|하는|있는|이다|니다|습니|입니|인가|무엇|언제|어디|누구|어떤|대한|대해"
)


@dataclass(frozen=True, slots=True)
class Term:
    """A term, and the part of the text, in code points, that it was made of."""

    text: str
    start: int
    end: int


def terms(text: str) -> list[str]:
    """The terms of a text in order, with repetitions; letters and digits alone."""
    return [term.text for term in placed_terms(text)]


def asked_terms(query: str) -> list[str]:
    """What of a query is looked for: each term once, without those that say nothing, if it can."""
    found = list(dict.fromkeys(terms(query)))
    return [one for one in found if not _WEAK.fullmatch(one)] or found


def placed_terms(text: str) -> Iterator[Term]:
    """The terms of a text in composed form (NFC), each with its place."""
    folded, places = _folded(text)
    for run in _RUNS.finditer(folded):
        first, end = run.span()
        if run[1] is None:
            yield Term(singular(run[0]), places[first], places[end - 1] + 1)
        elif end - first == 1:
            yield Term(run[0], places[first], places[first] + 1)
        else:
            for at in range(first, end - 1):
                yield Term(folded[at : at + 2], places[at], places[at + 1] + 1)


def singular(word: str) -> str:
    """An English word without its plural's ending (Harman, How effective is suffixing?, 1991)."""
    if len(word) < 4 or not word.isascii() or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


def size(text: str) -> int:
    """About how many tokens a language model makes of the text."""
    found = terms(text)
    pairs = sum(1 for one in found if _WITHOUT_SPACES.match(one))
    return round(1.3 * (len(found) - pairs) + pairs)


def _folded(text: str) -> tuple[str, Sequence[int]]:
    """The text without case, accents and compatibility forms; and where each character was."""
    if text.isascii() and "," not in text:
        return text.lower(), range(len(text))
    left_out = {match.start() for match in _THOUSANDS.finditer(text)}
    chars: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        if place not in left_out:
            plain = _plain(char)
            chars.append(plain)
            places += [place] * len(plain)
    return "".join(chars), places


@lru_cache(maxsize=20_000)
def _plain(char: str) -> str:
    if char.isascii() or _WITHOUT_SPACES.match(char):
        return char.lower()
    apart = unicodedata.normalize("NFKD", char)
    plain = "".join(one for one in apart if not unicodedata.combining(one))
    return unicodedata.normalize("NFC", plain).casefold()
