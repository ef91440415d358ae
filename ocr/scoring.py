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
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

UnicodeForm = Literal["NFC", "NFD", "NFKC", "NFKD"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What one page comes to; every figure follows from these, and over many pages their sums.

    `errors` (substituted, deleted and inserted characters) against `characters` of truth, the same
    for words, and of the two bags of words `words_matched` of `words` and `words_read`.
    """

    errors: int
    characters: int
    word_errors: int
    words: int
    words_read: int
    words_matched: int

    @property
    def cer(self) -> float:
        return _rate(self.errors, self.characters)

    @property
    def wer(self) -> float:
        return _rate(self.word_errors, self.words)

    @property
    def word_f1(self) -> float:
        return _f1(self.words_matched, self.words + self.words_read)


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


def rules(*, form: UnicodeForm = "NFC", casefold: bool = True) -> str:
    """The rules in words, to stand beside every figure."""
    case = "case folded" if casefold else "case counts"
    return f"{form}, {case}, white space collapsed"


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
    return count(reference, hypothesis, form=form, casefold=casefold).cer


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
    return count(reference, hypothesis, form=form, casefold=casefold).wer


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
    return count(reference, hypothesis, form=form, casefold=casefold).word_f1


def count(
    reference: str,
    hypothesis: str | None,
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> Counts:
    """One page against its truth. None, a failed page, has all of the reference lost.

    A failed page of no text counts one character and one word, so that it is seen as failed.
    """
    truth = normalised(reference, form=form, casefold=casefold)
    words = truth.split()
    if hypothesis is None:
        blank = 0 if truth else 1
        return Counts(len(truth) or 1, len(truth), len(words) or 1, len(words), blank, 0)
    read = normalised(hypothesis, form=form, casefold=casefold)
    read_words = read.split()
    return Counts(
        errors=Levenshtein.distance(truth, read),
        characters=len(truth),
        word_errors=Levenshtein.distance(words, read_words),
        words=len(words),
        words_read=len(read_words),
        words_matched=(Counter(words) & Counter(read_words)).total(),
    )


def score(
    pages: Iterable[tuple[str, str | None]],
    *,
    form: UnicodeForm = "NFC",
    casefold: bool = True,
) -> Scores:
    """All figures over many `(reference, hypothesis)` pages. Raises ValueError for no pages."""
    return pooled(count(*page, form=form, casefold=casefold) for page in pages)


def pooled(pages: Iterable[Counts]) -> Scores:
    """All figures over pages that are counted already. Raises ValueError for no pages."""
    counts = list(pages)
    if not counts:
        raise ValueError("There is no page to score: give at least one reference.")
    whole = Counts(*(sum(column) for column in zip(*map(astuple, counts), strict=True)))
    return Scores(
        pages=len(counts),
        cer_micro=whole.cer,
        cer_macro=_mean([page.cer for page in counts]),
        wer_micro=whole.wer,
        wer_macro=_mean([page.wer for page in counts]),
        word_f1_micro=whole.word_f1,
        word_f1_macro=_mean([page.word_f1 for page in counts]),
    )


def _rate(errors: int, length: int) -> float:
    return errors / length if length else float(errors > 0)


def _f1(common: int, both: int) -> float:
    return 2 * common / both if both else 1.0


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)
