"""Columns are read one after the other, and what stands in rows stays in rows."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from ocr.engines.base import Line
from ocr.layout import lay_out, page_text
from tests.ocr.set_lines import HEIGHT, PITCH, bottom, column, in_order, line, prose, read, right_of

A, B, C, D = (prose(name, 9) for name in ("alpha", "beta", "gamma", "delta"))


def turned(one: Line, degrees: float) -> Line:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return replace(
        one, polygon=tuple((x * cos - y * sin, x * sin + y * cos) for x, y in one.polygon)
    )


def joined(one: Line, other: Line, spans: bool = False) -> Line:
    """Two lines of one row in one box, as a detector draws them over a narrow gutter."""
    left, right = one.polygon[0][0], other.polygon[1][0]
    box = (one.polygon[0], other.polygon[1], other.polygon[2], one.polygon[3])
    text, found = f"{one.text} {other.text}", []
    for part in (one, other):
        x = part.polygon[0][0]
        for word in part.text.split():
            end = x + len(word) * HEIGHT / 2
            found.append(((x - left) / (right - left), (end - left) / (right - left)))
            x = end + HEIGHT / 2
    return Line(text, 0.9, box, tuple(found) if spans else ())


@pytest.mark.parametrize("degrees", [-1.5, 0, 1.5])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_columns_under_a_headline(count: int, degrees: float) -> None:
    texts = [A, B, C, D][:count]
    step = 1100 / count
    lines = [line("A headline over all of them", 60, 40, 60)]
    for place, text in enumerate(texts):
        lines += column(text, 60 + step * place, 130, step - 40)
    lines = [turned(one, degrees) for one in lines]
    Random(1).shuffle(lines)
    words = read(lines)
    assert in_order(words, "A headline over all of them", *texts)


def test_a_headline_in_the_middle_ends_the_columns_over_it() -> None:
    top = [*column(A, 60, 60, 500), *column(B, 620, 60, 500)]
    y = bottom(top) + 40
    low = [*column(C, 60, y + 80, 500), *column(D, 620, y + 80, 500)]
    words = read([*low, line("Another story that begins here", 60, y, 40), *top])
    assert in_order(words, A, B, "Another story that begins here", C, D)


def test_a_short_headline_ends_the_columns_too() -> None:
    """It is no wider than its first column, but the others leave room beside it."""
    top = [*column(A, 60, 60, 500), *column(B, 620, 60, 500)]
    y = bottom(top) + 40
    low = [*column(C, 60, y + 80, 500), *column(D, 620, y + 80, 500)]
    assert in_order(read([*low, line("Shorter", 60, y, 40), *top]), A, B, "Shorter", C, D)


def test_a_column_beside_a_headline_over_its_neighbours_stays_whole() -> None:
    first = column(A, 60, 60, 340)
    lines = [
        *first,
        *column(B[:150], 430, 60, 340),
        *column(C[:150], 800, 60, 340),
        line("Over two columns of three", 430, 330, 44),
        *column(D, 430, 400, 340),
        *column(prose("omega", 6), 800, 400, 340),
    ]
    words = read(lines)
    assert in_order(words, A, "Over two columns of three", D, prose("omega", 6))


def test_a_picture_with_its_caption_stands_in_its_column() -> None:
    upper, lower = column(B, 620, 60, 500), column(D, 620, 820, 500)
    caption = line("Caption of the picture in between.", 620, 780, 16)
    words = read([*lower, caption, *upper, *column(A + " " + C, 60, 60, 500)])
    assert in_order(words, A, C, B, caption.text, D)


def test_indented_paragraphs_and_subheads_stay_in_their_column() -> None:
    lines = [*column(A, 60, 60, 500, indent=25)]
    lines.append(line("A subhead", 60, bottom(lines) + 14, 24))
    lines += column(C, 60, bottom(lines) + 10, 500, indent=25)
    other = column(B + " " + D, 620, 60, 500)
    assert in_order(read([*other, *lines]), A, "A subhead", C, B, D)


def test_a_quote_in_the_gutter_leaves_the_columns_whole() -> None:
    left, right = column(A, 60, 60, 500), column(B, 620, 60, 500)
    top = max(bottom(left), bottom(right)) + 6
    beside = [*column(C[:200], 60, top, 300), *column(D[:200], 820, top, 300)]
    foot = bottom(beside) + 6
    omega, sigma = prose("omega", 6), prose("sigma", 6)
    left, right = [*left, *beside], [*right, *column(sigma, 620, foot, 500)]
    left += column(omega, 60, foot, 500)
    quote = [
        line("A quote that both", 440, top + 30, 28),
        line("columns flow by", 450, top + 70, 28),
    ]
    words = read([*quote, *left, *right])
    assert in_order(words, A, omega, B, sigma)
    assert in_order(words, "A quote that both columns flow by")


def test_a_running_head_is_read_before_the_columns() -> None:
    lines = [line("12", 60, 30), right_of("Harbour News July 1993", 1120, 30)]
    lines += [*column(A, 60, 110, 500), *column(B, 620, 110, 500)]
    foot = right_of("page 7", 1120, bottom(lines) + 60)
    words = read([*lines, foot])
    assert in_order(words, "12 Harbour News July 1993", A, B, "page 7")


@pytest.mark.parametrize("spans", [False, True])
def test_boxes_drawn_across_a_narrow_gutter_are_cut(spans: bool) -> None:
    left, right = column(A, 60, 60, 500), column(D, 575, 60, 500)
    rows = list(zip(left, right, strict=True))
    lines = [one for row in rows for one in row]
    fullest = sorted(range(1, len(left) - 1), key=lambda place: -len(left[place].text))[:3]
    for place in fullest:
        lines = [one for one in lines if one not in rows[place]]
        lines.append(joined(*rows[place], spans=spans))
    laid = lay_out(lines, 1240, 1754)
    assert in_order(page_text(laid).split(), A, D)
    boxes = {one.text: one.polygon for one in laid.lines}
    for one in (left[fullest[0]], right[fullest[1]]):
        assert [x for x, _ in boxes[one.text]] == pytest.approx([x for x, _ in one.polygon], abs=25)


def test_a_wide_paragraph_over_columns_is_not_cut() -> None:
    opening = column(A, 60, 60, 1060)
    y = bottom(opening) + 20
    words = read([*opening, *column(B, 60, y, 500), *column(C, 620, y, 500)])
    assert in_order(words, A, B, C)


def test_text_that_runs_up_the_margin_closes_no_gutter() -> None:
    credit = ((585.0, 300.0), (600.0, 300.0), (600.0, 500.0), (585.0, 500.0))
    lines = [*column(A, 60, 60, 500), *column(B, 620, 60, 500)]
    words = read([*lines, Line("Photograph by someone", 0.9, credit)])
    assert in_order(words, A, B, "Photograph by someone")


def test_columns_in_a_script_without_capitals() -> None:
    text = "대한민국의 모든 국민은 법 앞에 평등하다 누구든지 차별을 받지 아니한다 그리고 이 헌법은 "
    left = [line(text[:30], 60, 60 + PITCH * n) for n in range(12)]
    right = [line(text[:31], 420, 60 + PITCH * n) for n in range(12)]
    ordered = lay_out([one for row in zip(left, right, strict=True) for one in row], 800, 600).lines
    assert list(ordered) == left + right


ROWS = {
    "receipt": [
        [("2 SOURDOUGHT LOAF", 40), ("9.60", 500)],
        [("4 BUTTER CROISSANT", 40), ("8.80", 500)],
        [("1 APPLE CAKE", 40), ("14.50", 490)],
        [("SUBTOTAL", 40), ("32.90", 490)],
        [("CASH", 40), ("50.00", 490)],
    ],
    "form": [
        [("Name: Ada Whitlock", 40), ("Date of birth: 3 May 1975", 600)],
        [("Street: 14 Harbour Lane", 40), ("Telephone: 0155 274 310", 600)],
        [("Town: Westerby", 40), ("Country: Ireland", 600)],
        [("Employer: Harbour Lane Library", 40), ("Since: 12 March 2001", 600)],
        [("Position: Archivist", 40), ("Signed: A. Whitlock", 600)],
    ],
    "letter head": [
        [("Fennel & Brook Imaging", 40), ("12 March 2025", 900)],
        [("27 Quarry Road", 40), ("Our reference: 2025-0319", 800)],
        [("Westerby", 40), ("Telephone 0155 274 402", 810)],
    ],
    "definitions in a table": [
        [("No.", 40), ("Description", 140), ("Amount", 800)],
        [("1", 40), ("Newspaper pages scanned", 140), ("441.00", 800)],
        [("2", 40), ("Maps scanned, large format", 140), ("156.00", 800)],
        [("3", 40), ("Glass negatives, cleaned", 140), ("192.00", 800)],
    ],
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("degrees", [-1.0, 0, 1.0])
def test_rows_stay_rows(name: str, degrees: float) -> None:
    rows = ROWS[name]
    lines = [
        turned(line(text, x, 60 + 1.4 * PITCH * place), degrees)
        for place, row in enumerate(rows)
        for text, x in row
    ]
    Random(2).shuffle(lines)
    said = page_text(lay_out(lines, 1240, 900)).split("\n")
    assert [one for one in said if one] == [" ".join(text for text, _ in row) for row in rows]


def test_a_table_inside_one_column_stays_in_rows() -> None:
    left = column(A + " " + C, 60, 60, 500)
    right = column(B, 620, 60, 500)
    y = bottom(right) + 40
    cells = [("Item", "Units", "Share"), ("Apples", "120", "7.5"), ("Pears", "80", "5.0")]
    cells += [("Plums", "40", "2.5"), ("Quinces", "9", "0.6")]
    for row in cells:
        right += [line(row[0], 620, y), right_of(row[1], 900, y), right_of(row[2], 1080, y)]
        y += PITCH
    right += column(D, 620, y + 40, 500)
    told = " ".join(" ".join(row) for row in cells)
    assert in_order(read([*left, *right]), A, C, B, told, D)


def test_a_poem_and_a_list_in_one_column() -> None:
    verses = ["O harbour lane,", "where evening lies", "upon the water", "and on the quay,"]
    poem = [line(text, 200 if n % 2 else 160, 400 + n * PITCH) for n, text in enumerate(verses)]
    items = [line("-", 60, 700 + n * PITCH) for n in range(4)]
    texts = [line(f"item {n} of the list", 90, 700 + n * PITCH) for n in range(4)]
    words = read([*texts, *poem, *items, *column(A, 60, 60, 1000), *column(B, 60, 900, 1000)])
    assert in_order(words, A, " ".join(verses), "- item 0 of the list - item 1", B)


def test_a_page_of_one_line_and_an_empty_one() -> None:
    assert read([line("Alone", 10, 10)]) == ["Alone"]
    assert lay_out([], 10, 10).blocks == ()
    assert page_text(lay_out([], 10, 10)) == ""
