from __future__ import annotations

import unicodedata

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr.scoring import cer, count, normalised, pooled, rules, score, wer, word_f1

FORMS = st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WORDS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=8)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("kitten", "sitting", 3 / 6),
        ("abc", "", 1.0),
        ("abc", "abcabc", 1.0),
        ("a", "xyz", 3.0),
        ("", "", 0.0),
        (" \n", "\t", 0.0),
        ("", "abc", 1.0),
        ("abc", None, 1.0),
        ("", None, 1.0),
        ("Total  12.50\n", "total 12.50", 0.0),
        ("Straße", "STRASSE", 0.0),
    ],
)
def test_cer(reference: str, hypothesis: str | None, expected: float) -> None:
    assert cer(reference, hypothesis) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "the cat sat", 0.0),
        ("the cat sat", "the bat sat down", 2 / 3),
        ("the cat sat", "", 1.0),
        ("the cat sat", None, 1.0),
        ("", "word", 1.0),
    ],
)
def test_wer(reference: str, hypothesis: str | None, expected: float) -> None:
    assert wer(reference, hypothesis) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("one two three", "three one two", 1.0),
        ("one one two", "one two two", 2 / 3),
        ("one two", "one", 2 / 3),
        ("one", "two", 0.0),
        ("one", None, 0.0),
        ("", None, 0.0),
        ("", "", 1.0),
    ],
)
def test_word_f1(reference: str, hypothesis: str | None, expected: float) -> None:
    assert word_f1(reference, hypothesis) == pytest.approx(expected)


def test_case_counts_where_it_is_asked_for() -> None:
    assert cer("ABC", "abc", casefold=False) == 1.0
    assert wer("Total DUE", "total DUE", casefold=False) == 0.5
    assert word_f1("Total", "total", casefold=False) == 0.0


def test_the_unicode_form_decides_what_is_one_character() -> None:
    decomposed = unicodedata.normalize("NFD", "한글 café")
    assert cer("한글 café", decomposed) == 0.0
    assert cer("각", "간") == 1.0
    assert cer("각", "간", form="NFD") == pytest.approx(1 / 3)
    assert cer("\uff11\uff12", "12") == 1.0
    assert cer("\uff11\uff12", "12", form="NFKC") == 0.0


def test_micro_weighs_by_length_and_macro_by_page() -> None:
    scores = score([("a" * 90, "a" * 90), ("b" * 10, None)])
    assert scores.pages == 2
    assert scores.cer_micro == pytest.approx(0.1)
    assert scores.cer_macro == pytest.approx(0.5)
    assert scores.wer_micro == scores.wer_macro == pytest.approx(0.5)
    assert scores.word_f1_micro == pytest.approx(2 / 3)
    assert scores.word_f1_macro == pytest.approx(0.5)


def test_a_failed_page_without_text_still_shows() -> None:
    assert score([("", None)]).cer_micro == 1.0
    assert score([("", None), ("ab", "ab")]).cer_macro == 0.5


def test_nothing_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="at least one"):
        score([])


@given(TEXT, FORMS, st.booleans())
def test_a_text_is_no_distance_from_itself(text: str, form: str, casefold: bool) -> None:
    rules = {"form": form, "casefold": casefold}
    assert cer(text, text, **rules) == wer(text, text, **rules) == 0
    assert word_f1(text, text, **rules) == 1
    once = normalised(text, **rules)
    assert normalised(once, **rules) == once
    assert cer(text, once, **rules) == 0


@given(TEXT, TEXT)
def test_errors_are_symmetric_and_bounded(one: str, other: str) -> None:
    lengths = len(normalised(one)), len(normalised(other))
    if all(lengths):
        there, back = cer(one, other) * lengths[0], cer(other, one) * lengths[1]
        assert there == pytest.approx(back)
        assert abs(lengths[0] - lengths[1]) - 1e-9 <= there <= max(lengths) + 1e-9
    assert word_f1(one, other) == word_f1(other, one)
    assert 0 <= word_f1(one, other) <= 1


@given(TEXT, TEXT, TEXT)
def test_detours_are_never_shorter(one: str, via: str, other: str) -> None:
    def errors(a: str, b: str) -> float:
        return cer(a, b) * (len(normalised(a)) or len(normalised(b)))

    assert errors(one, other) <= errors(one, via) + errors(via, other) + 1e-9


@given(WORDS, st.randoms(use_true_random=False))
def test_order_does_not_matter_to_word_f1(words: list[str], random: object) -> None:
    shuffled = words.copy()
    random.shuffle(shuffled)
    assert word_f1(" ".join(words), "\n".join(shuffled)) == 1


@given(st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=6))
def test_one_page_and_many_agree(pages: list[tuple[str, str | None]]) -> None:
    scores = score(pages)
    rates = [cer(reference, hypothesis) for reference, hypothesis in pages]
    assert scores.cer_macro == pytest.approx(sum(rates) / len(rates))
    assert scores.pages == len(pages)
    one = score(pages[:1])
    assert one.cer_micro == pytest.approx(rates[0])
    assert one.word_f1_micro == one.word_f1_macro == pytest.approx(word_f1(*pages[0]))


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.booleans())
def test_rates_are_those_of_another_library(pages: list[tuple[str, str]], casefold: bool) -> None:
    """jiwer, on the texts as they are compared; it takes no empty reference."""
    rules = {"form": "NFC", "casefold": casefold}
    pairs = [(normalised(a, **rules), normalised(b, **rules)) for a, b in pages]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        return
    references, hypotheses = [a for a, _ in pairs], [b for _, b in pairs]
    scores = score(pairs, **rules)
    assert scores.cer_micro == pytest.approx(jiwer.cer(references, hypotheses))
    assert scores.wer_micro == pytest.approx(jiwer.wer(references, hypotheses))
    each = [jiwer.cer(a, b) for a, b in pairs]
    assert scores.cer_macro == pytest.approx(sum(each) / len(each))


@given(st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=6))
def test_sums_of_counts_are_the_scores_of_all(pages: list[tuple[str, str | None]]) -> None:
    counts = [count(reference, hypothesis) for reference, hypothesis in pages]
    assert pooled(counts) == score(pages)
    assert counts[0].cer == cer(*pages[0]) and counts[0].wer == wer(*pages[0])
    assert all(0 <= one.words_matched <= min(one.words, one.words_read) for one in counts)


def test_the_rules_are_said() -> None:
    assert rules() == "NFC, case folded, white space collapsed"
    assert rules(form="NFKC", casefold=False) == "NFKC, case counts, white space collapsed"
