"""Boxes in any order come out as a person reads them."""

from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ocr.engines.base import Line
from ocr.layout import reading_order, rows_text

HEIGHT = 20


def line(text: str, left: float, top: float, width: float = 100, height: float = HEIGHT) -> Line:
    right, bottom = left + width, top + height
    return Line(text, 0.9, ((left, top), (right, top), (right, bottom), (left, bottom)))


def turned(one: Line, angle: float) -> Line:
    cos, sin = math.cos(angle), math.sin(angle)
    polygon = tuple((x * cos - y * sin, x * sin + y * cos) for x, y in one.polygon)
    return Line(one.text, one.confidence, polygon)


def table(rows: int, columns: int) -> list[Line]:
    """Cells named by their place in the reading."""
    return [
        line(f"{row * columns + column}", 150 * column, 2 * HEIGHT * row)
        for row in range(rows)
        for column in range(columns)
    ]


def test_a_row_is_read_from_left_to_right_and_the_rows_from_the_top() -> None:
    lines = [line("Total", 0, 100), line("9.00", 300, 103), line("Shop", 120, 0)]
    ordered = reading_order(reversed(lines))
    assert [one.text for one in ordered] == ["Shop", "Total", "9.00"]
    assert rows_text(ordered) == "Shop\nTotal 9.00"


def test_small_print_beside_a_tall_line_stays_in_its_row() -> None:
    lines = [line("TOTAL", 0, 0, 200, 60), line("RM", 220, 25, 30, 20), line("next", 0, 70)]
    assert rows_text(reading_order(lines)) == "TOTAL RM\nnext"


def test_lines_set_close_under_each_other_are_not_one_row() -> None:
    lines = [line("first", 0, 0), line("second", 5, 9), line("third", 0, 18)]
    assert rows_text(reading_order(lines)) == "first\nsecond\nthird"


def test_text_keeps_the_order_it_is_given() -> None:
    """An engine that finds columns has ordered the lines better than rows would."""
    column = [line("a", 0, 0), line("b", 0, 40), line("c", 200, 0), line("d", 200, 40)]
    assert rows_text(column) == "a\nb\nc\nd"


def test_an_empty_page() -> None:
    assert reading_order([]) == ()
    assert rows_text([]) == ""


@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.floats(-0.08, 0.08),
    st.randoms(use_true_random=False),
)
def test_a_skewed_table_is_read_row_by_row(
    rows: int, columns: int, angle: float, random: Random
) -> None:
    lines = [turned(one, angle) for one in table(rows, columns)]
    random.shuffle(lines)
    ordered = reading_order(lines)
    assert [one.text for one in ordered] == [str(n) for n in range(rows * columns)]
    assert len(rows_text(ordered).splitlines()) == rows


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=5),
            st.floats(0, 2000),
            st.floats(0, 2000),
            st.floats(0, 800),
            st.floats(0, 200),
        ),
        max_size=25,
    )
)
def test_no_line_is_lost_or_made_up(boxes: list[tuple[str, float, float, float, float]]) -> None:
    lines = [line(*box) for box in boxes]
    ordered = reading_order(lines)
    assert sorted(map(id, ordered)) == sorted(map(id, lines))
    assert reading_order(ordered) == reading_order(reading_order(ordered))
    kept = "".join(rows_text(ordered).split())
    assert kept == "".join("".join(one.text.split()) for one in ordered)
