"""Headings, paragraphs and tables, found by where the lines stand and how high they are."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ocr.engines.base import Line
from ocr.layout import Block, Layout, lay_out, page_text
from tests.ocr.set_lines import HEIGHT, PITCH, bottom, column, line, prose, right_of


def texts(layout: Layout, block: Block) -> list[str]:
    return [one.text for one in layout.lines[block.first : block.end]]


def cells(layout: Layout, block: Block) -> list[list[str]]:
    return [
        [" ".join(layout.lines[number].text for number in cell) for cell in row]
        for row in block.rows
    ]


def under(lines: list[Line], text: str, height: float = HEIGHT) -> Line:
    return line(text, 60, bottom(lines) + 20, height)


def test_headings_have_levels_by_their_height() -> None:
    lines = [line("The title", 60, 40, 44)]
    for text, height in (("A part of it", 32), ("A smaller part", 26)):
        lines += column(prose("alpha", 4), 60, bottom(lines) + 20, 900)
        lines.append(under(lines, text, height))
    lines += column(prose("beta", 4), 60, bottom(lines) + 20, 900)
    layout = lay_out(lines, 1240, 1754)
    headings = [(one.level, *texts(layout, one)) for one in layout.blocks if one.kind == "heading"]
    assert headings == [(1, "The title"), (2, "A part of it"), (3, "A smaller part")]


def test_a_headline_of_two_lines_is_one_heading() -> None:
    lines = [line("The first line of a headline", 60, 40, 44), line("and its last", 60, 96, 40)]
    lines += column(prose("alpha", 6), 60, 170, 340) + column(prose("beta", 6), 460, 170, 340)
    layout = lay_out(lines, 900, 900)
    assert texts(layout, layout.blocks[0]) == [lines[0].text, lines[1].text]
    assert [one.kind for one in layout.blocks].count("heading") == 1


def test_boxes_of_uneven_height_are_no_headings() -> None:
    """An engine's boxes of one font differ by a fifth."""
    text = column(prose("alpha", 12), 60, 60, 600)
    uneven = [
        line(one.text, 60, one.polygon[0][1], HEIGHT * (0.9, 1.0, 1.1, 1.2)[place % 4])
        for place, one in enumerate(text)
    ]
    assert {one.kind for one in lay_out(uneven, 800, 800).blocks} == {"text"}


def test_high_figures_and_long_texts_are_no_headings() -> None:
    lines = column(prose("alpha", 6), 60, 60, 600)
    lines.append(under(lines, "47.20", 50))
    lines += column(prose("beta", 6), 60, bottom(lines) + 30, 600)
    large = [under(lines, "large print goes on and on", 30)]
    for _ in range(5):
        large.append(under(large, "large print goes on and on", 30))
    layout = lay_out([*lines, *large], 800, 1500)
    assert all(one.kind == "text" for one in layout.blocks)


def test_paragraphs_are_blocks_by_a_gap_or_an_indent() -> None:
    first, second = prose("alpha", 5), prose("beta", 5)
    gap = column(first, 60, 60, 500)
    gap += column(second, 60, bottom(gap) + PITCH, 500)
    indent = column(first, 60, 60, 500)
    indent += column(second, 60, bottom(indent) + PITCH - HEIGHT, 500, indent=24)
    for lines in (gap, indent):
        layout = lay_out(lines, 600, 900)
        assert [" ".join(texts(layout, one)) for one in layout.blocks] == [first, second]
        assert [part.replace("\n", " ") for part in page_text(layout).split("\n\n")] == [
            first,
            second,
        ]


INVOICE = [
    ["No.", "Description", "Quantity", "Amount"],
    ["1", "Newspaper pages scanned", "3,150", "441.00"],
    ["2", "Maps scanned", "24", "156.00"],
    ["3", "Glass negatives, cleaned and scanned", "", "192.00"],
    ["4", "Collection and return", "2", "90.00"],
]


def invoice_rows(top: float, pitch: float) -> list[Line]:
    lines = []
    for place, (number, description, quantity, amount) in enumerate(INVOICE):
        y = top + place * pitch
        lines += [line(number, 60, y), line(description, 130, y), right_of(amount, 1000, y)]
        lines += [right_of(quantity, 760, y)] if quantity else []
    return lines


def test_an_invoice_is_a_table_with_its_empty_cell() -> None:
    lines = [line("INVOICE", 60, 40, 44), *invoice_rows(200, 58)]
    lines += [under(lines, "Please pay within thirty days and give the number with it.")]
    layout = lay_out(lines, 1240, 1754)
    assert [one.kind for one in layout.blocks] == ["heading", "table", "text"]
    assert cells(layout, layout.blocks[1]) == INVOICE
    assert "3 Glass negatives, cleaned and scanned 192.00\n4 " in page_text(layout)


def test_names_above_their_prices_stay_in_the_table() -> None:
    rows = [["SPONGE KOREA", ""], ["2 X 2.83", "5.66"], ["PLASTIC BAGS", ""], ["1 X 0.19", "0.19"]]
    rows = [["WASH BALL", ""], ["2 X 1.13", "2.26"], *rows]
    lines = []
    for place, (left, right) in enumerate(rows):
        lines.append(line(left, 60, 60 + PITCH * place))
        lines += [right_of(right, 500, 60 + PITCH * place)] if right else []
    layout = lay_out(lines, 600, 400)
    (table,) = [one for one in layout.blocks if one.kind == "table"]
    assert cells(layout, table)[-5:] == rows[1:]


def test_prose_with_a_line_in_two_boxes_is_no_table() -> None:
    lines = column(prose("alpha", 8), 60, 60, 600)
    for place, count in ((2, 3), (5, 4), (8, 2)):
        words, y = lines[place].text.split(), lines[place].polygon[0][1]
        first = line(" ".join(words[:count]), 60, y)
        rest = line(" ".join(words[count:]), first.polygon[1][0] + 14, y)
        lines[place : place + 1] = [first, rest]
    layout = lay_out(lines, 800, 800)
    assert [one.kind for one in layout.blocks] == ["text"]
    assert page_text(layout).replace("\n", " ") == prose("alpha", 8)


BOXES = st.tuples(
    st.lists(st.sampled_from(["word", "Total", "12.50", "of", "한국어"]), min_size=1, max_size=6),
    st.integers(0, 40),
    st.integers(0, 60),
    st.integers(1, 80),
    st.integers(1, 6),
)


@given(st.lists(BOXES, max_size=40))
def test_blocks_divide_the_lines_and_no_word_is_lost(
    boxes: list[tuple[list[str], int, int, int, int]],
) -> None:
    lines = []
    for words, left, top, width, height in boxes:
        x, y, right, low = 30 * left, 15 * top, 30 * left + 15 * width, 15 * top + 9 * height
        lines.append(Line(" ".join(words), 0.9, ((x, y), (right, y), (right, low), (x, low))))
    layout = lay_out(lines, 1240, 1000)
    ends = [0, *(one.end for one in layout.blocks)]
    assert [one.first for one in layout.blocks] == ends[:-1]
    assert ends[-1] == len(layout.lines)
    said = Counter(word for words, *_ in boxes for word in words)
    assert Counter(page_text(layout).split()) == said
    for block in layout.blocks:
        assert block.first < block.end
        assert (block.level > 0) == (block.kind == "heading")
        numbers = [number for row in block.rows for cell in row for number in cell]
        wanted = range(block.first, block.end) if block.kind == "table" else ()
        assert numbers == list(wanted)
        assert len({len(row) for row in block.rows}) <= 1
    assert lay_out(lines, 1240, 1000) == layout
