"""How far a reading is from the truth: character and word error rates, and an order-free word F1.

One set of rules for every figure the product shows. Both texts are brought to one Unicode form
(NFC unless said otherwise, so that composed and decomposed Hangul or accents are the same) and to
one case (Unicode case folding, unless switched off); runs of white space count as one space, and
none at the ends. Punctuation and digits count as any other character. A page that was not read at
all is given as None.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

UnicodeForm = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Over `pages` pages: micro pools the counts of all, macro is the mean of the pages' figures.

    Micro weighs a page by its length, macro gives each page one vote.
    """

    pages: int
    cer_micro: float
    cer_macro: float
    wer_micro: float
    wer_macro: float
    word_f1_micro: float
    word_f1_macro: float


def normalised(text: str, *, form: UnicodeForm = "NFC", casefold: bool = True) -> str:
    """The text as it is compared; doing it twice changes nothing."""
    text = unicodedata.normalize(form, text)
    if casefold:
        # Folding can leave a letter decomposed, and composing one can make it foldable again.
        text = unicodedata.normalize(form, text.casefold())
        text = unicodedata.normalize(form, text.casefold())
    return " ".join(text.split())


def cer(
    reference: str,
    hypothesis: str | None,
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> float:
    """Character error rate, (S + D + I) / N: Levenshtein distance over reference code points.

    0 is perfect, and much invented text makes it larger than 1. None, a failed page, is 1; an
    empty reference is 0 if nothing was read and 1 if anything was.
    Source: Rice, Jenkins and Nartker, The Fifth Annual Test of OCR Accuracy (1996).
    """
    return _rate(*_edits(*_pair(reference, hypothesis, form, casefold)))


def wer(
    reference: str,
    hypothesis: str | None,
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> float:
    """Word error rate: as `cer`, over words between white space in place of characters.

    Source: Morris, Maier and Green, From WER and RIL to MER and WIL (Interspeech 2004).
    """
    truth, read = _pair(reference, hypothesis, form, casefold)
    return _rate(*_edits(truth.split(), None if read is None else read.split()))


def word_f1(
    reference: str,
    hypothesis: str | None,
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> float:
    """F1 of the two bags of words, 2 x common / (words in both): blind to the order of reading.

    From 0 to 1, where 1 is perfect; a word read twice counts twice. None, a failed page, is 0;
    two empty texts are 1.
    Source: Neudecker et al., A survey of OCR evaluation tools and metrics (HIP 2021).
    """
    return _f1(*_common(*_pair(reference, hypothesis, form, casefold)))


def score(
    pages: Iterable[tuple[str, str | None]],
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> Scores:
    """All figures over many `(reference, hypothesis)` pages. Raises ValueError for no pages.

    A failed page (None) has all of its reference counted as lost.
    """
    pairs = [_pair(reference, hypothesis, form, casefold) for reference, hypothesis in pages]
    if not pairs:
        raise ValueError("There is no page to score: give at least one reference.")
    characters = [_edits(truth, read) for truth, read in pairs]
    words = [_edits(truth.split(), None if read is None else read.split()) for truth, read in pairs]
    bags = [_common(truth, read) for truth, read in pairs]
    return Scores(
        pages=len(pairs),
        cer_micro=_rate(*_sums(characters)),
        cer_macro=_mean([_rate(*counts) for counts in characters]),
        wer_micro=_rate(*_sums(words)),
        wer_macro=_mean([_rate(*counts) for counts in words]),
        word_f1_micro=_f1(*_sums(bags)),
        word_f1_macro=_mean([_f1(*counts) for counts in bags]),
    )


def _pair(
    reference: str, hypothesis: str | None, form: UnicodeForm, casefold: bool
) -> tuple[str, str | None]:
    truth = normalised(reference, form=form, casefold=casefold)
    if hypothesis is None:
        return truth, None
    return truth, normalised(hypothesis, form=form, casefold=casefold)


def _edits(truth: Sequence[str], read: Sequence[str] | None) -> tuple[int, int]:
    """(S + D + I, N). A failed page of no text counts one error, so that it is seen as failed."""
    if read is None:
        return max(len(truth), 1), len(truth)
    return Levenshtein.distance(truth, read), len(truth)


def _rate(errors: int, length: int) -> float:
    return errors / length if length else float(errors > 0)


def _common(truth: str, read: str | None) -> tuple[int, int]:
    """(words in common, words in both together), with one lost word for a failed page of none."""
    ours, theirs = Counter(truth.split()), Counter((read or "").split())
    both = ours.total() + theirs.total()
    return (ours & theirs).total(), max(both, 1) if read is None else both


def _f1(common: int, both: int) -> float:
    return 2 * common / both if both else 1.0


def _sums(counts: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(first for first, _ in counts), sum(second for _, second in counts)


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)
