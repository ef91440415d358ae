"""Which pages `1-3,7` means."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.exceptions import ApplicationError
from ocr.page_range import parse_page_range


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("", (1, 2, 3, 4, 5)),
        ("   ", (1, 2, 3, 4, 5)),
        ("3", (3,)),
        ("2-4", (2, 3, 4)),
        ("4-", (4, 5)),
        ("-2", (1, 2)),
        ("5,1", (1, 5)),
        (" 1 - 2 , 2-3 ", (1, 2, 3)),
        ("1-5", (1, 2, 3, 4, 5)),
        ("5-5", (5,)),
    ],
)
def test_ranges_mean_pages_each_once_in_order(text: str, pages: tuple[int, ...]) -> None:
    assert parse_page_range(text, 5) == pages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one", "'one' is not a range of pages. Write for example 1-3,7 or 5-."),
        ("-", "not a range"),
        (",", "not a range"),
        ("1,,2", "not a range"),
        ("1-2-3", "not a range"),
        ("1;2", "not a range"),
        ("+1", "not a range"),
        ("1.5", "not a range"),
        ("0", "'0' is not within the document's pages, 1 to 5."),
        ("6", "'6' is not within the document's pages, 1 to 5."),
        ("4-6", "not within"),
        ("6-", "not within"),
        ("-9", "not within"),
        ("4-2", "not within"),
        ("1, 7-8", "'7-8' is not within"),
        ("9" * 9, "not within"),
        ("9" * 5000, "not a range"),
        ("٣", "not a range"),
    ],
)
def test_what_is_no_range_says_why(text: str, message: str) -> None:
    with pytest.raises(ApplicationError, match=re.escape(message)) as caught:
        parse_page_range(text, 5)
    assert (caught.value.code, caught.value.param) == ("page_range", "page_range")


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(60, 80), st.data())
def test_any_pages_can_be_named_in_any_order(
    wanted: set[int], pages: int, data: st.DataObject
) -> None:
    parts = [str(number) for number in wanted]
    parts += [f"{n}-{n + 1}" for n in wanted if n + 1 in wanted]
    text = ",".join(data.draw(st.permutations(parts)))
    assert parse_page_range(text, pages) == tuple(sorted(wanted))


@given(st.text("0123456789-, x", max_size=12), st.integers(1, 30))
def test_any_text_gives_pages_of_the_document_or_is_refused(text: str, pages: int) -> None:
    try:
        found = parse_page_range(text, pages)
    except ApplicationError as error:
        assert error.code == "page_range"
        return
    assert found == tuple(sorted(set(found)))
    assert found and found[0] >= 1 and found[-1] <= pages
