"""What is searched for in a text, how pages are cut, and how rankings are made one."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llm.retrieval.chunking import OVERLAP, TARGET, passages
from llm.retrieval.fusion import fused
from llm.retrieval.marking import marks
from llm.retrieval.terms import asked_terms, placed_terms, size, terms
from tests.llm.library import lines_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Invoices, boxed.", ["the", "invoice", "boxed"]),
        ("도서관에서", ["도서", "서관", "관에", "에서"]),
        ("차 한 대", ["차", "한", "대"]),
        ("총액 12,500원", ["총액", "12500", "원"]),
        ("1,23 and 1,234,567", ["1", "23", "and", "1234567"]),
        ("K-1037 café ＡＢＣ", ["k", "1037", "cafe", "abc"]),  # noqa: RUF001
        ("東京都", ["東京", "京都"]),
        ("PDF문서", ["pdf", "문서"]),
        ("bus class companies", ["bus", "class", "company"]),
        ("— !? —", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_terms_know_their_places() -> None:
    text = "총액 12,500원 Straße"
    assert [text[one.start : one.end] for one in placed_terms(text)] == [
        "총액",
        "12,500",
        "원",
        "Straße",
    ]
    assert terms("Straße") == ["strasse"]


def test_marks_cover_the_words_asked_for() -> None:
    text = "다음 회의는 도서관에서 열린다. Pay the invoice."
    found = [text[start:end] for start, end in marks(text, "도서관은 invoices")]
    assert found == ["도서관", "invoice"]
    assert marks(text, "예산") == []


def test_size_is_near_what_models_make_of_it() -> None:
    assert size("one two three four") == 5
    assert size("도서관에서") == 4


def test_what_says_nothing_is_not_asked_for() -> None:
    assert asked_terms("What is the commander's fleet in 함대에서?") == [
        *("commander", "fleet", "함대", "대에"),
    ]
    assert asked_terms("to be or not") == ["to", "be", "or", "not"], "unless there is nothing else"


# -- passages -------------------------------------------------------------------------------------


def test_a_short_page_is_one_passage() -> None:
    lines = lines_of(["Title", "First line", "", "Second line"])
    blocks = [
        {"kind": "heading", "level": 1, "lines": [0, 1]},
        {"kind": "text", "level": 0, "lines": [1, 4]},
    ]
    [passage] = passages(lines, blocks)
    assert passage.text == "Title\nFirst line\nSecond line"
    assert (passage.first, passage.last, passage.heading) == (0, 3, "")
    assert passage.box == [10, 10, 300, 120]
    assert [passage.text[one["start"] :].split("\n")[0] for one in passage.lines] == [
        "Title",
        "First line",
        "Second line",
    ]
    assert [one["line"] for one in passage.lines] == [0, 1, 3]
    assert passages([], []) == []


def test_long_blocks_overlap_and_keep_their_heading() -> None:
    texts = ["Chapter", "Part", *(f"line {n} " + "word " * 18 for n in range(30))]
    blocks = [
        {"kind": "heading", "level": 1, "lines": [0, 1]},
        {"kind": "heading", "level": 2, "lines": [1, 2]},
        {"kind": "text", "level": 0, "lines": [2, 32]},
    ]
    found = passages(lines_of(texts), blocks)
    assert len(found) > 2
    assert all(size(one.text) <= TARGET + OVERLAP for one in found)
    assert found[0].first == 0 and found[-1].last == 31
    for before, after in pairwise(found):
        assert after.first <= before.last, "the last lines stand in the next passage too"
        assert after.heading == "Chapter > Part"


def test_a_section_of_some_length_begins_anew() -> None:
    body = ["word " * 30] * 4
    texts = ["One", *body, "Two", *body]
    blocks = [
        {"kind": "heading", "level": 1, "lines": [0, 1]},
        {"kind": "text", "level": 0, "lines": [1, 5]},
        {"kind": "heading", "level": 1, "lines": [5, 6]},
        {"kind": "text", "level": 0, "lines": [6, 10]},
    ]
    first, second = passages(lines_of(texts), blocks)
    assert first.last == 4 and second.first == 5
    assert second.text.startswith("Two\n") and second.heading == ""


def test_what_both_rank_high_comes_first() -> None:
    assert fused(["a", "b", "c"], ["d", "b", "e"])[0][0] == "b"
    assert [key for key, _ in fused(["a", "b"], [])] == ["a", "b"]
