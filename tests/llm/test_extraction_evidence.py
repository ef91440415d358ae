"""Where values stand: exactly, by meaning, nearly; on one line or several, and on which page."""

from __future__ import annotations

from typing import Any

import pytest

from llm.extraction.base import TextLine
from llm.extraction.correcting import typed_value, with_value
from llm.extraction.evidence import Place, locate, tight_polygon
from llm.extraction.fields import problems_of, schema_check
from mlops.exceptions import ApplicationError
from tests.llm.papers import LETTER, RECEIPT, pages_of_texts


def place(value: Any, *texts: str | tuple[str, ...], name: str = "x") -> dict[str, Any] | None:
    return locate(pages_of_texts(texts), {name: value}).get(f"/{name}")


def found(value: Any, *texts: str | tuple[str, ...], name: str = "x") -> tuple[Any, ...]:
    """(how, lines, text) of a value's place."""
    where = place(value, *texts, name=name)
    return () if where is None else (where["match"], where["lines"], where["text"])


@pytest.mark.parametrize(
    ("value", "text", "how", "part"),
    [
        ("Mill Street", "3 Mill Street, Westerby", "exact", "Mill Street"),
        ("MILL STREET", "3 Mill Street, Westerby", "normalised", "Mill Street"),
        ("Mill-Street", "3 Mill Street, Westerby", "normalised", "Mill Street"),
        ("2025-03-12", "Date: 12/03/2025 08:47", "normalised", "12/03/2025"),
        ("2025-03-12", "2025년 3월 12일 발급", "normalised", "2025년 3월 12일"),
        (25.55, "Total RM25.55", "normalised", "RM25.55"),
        (25.55, "Total 25.55", "exact", "25.55"),
        (1100000, "합계 1,100,000원", "normalised", "1,100,000원"),
        (-5.25, "Discount -5.25", "exact", "-5.25"),
        ("Harbour Lane Library", "from Harb0ur Lame Library", "fuzzy", "Harb0ur Lame Library"),
    ],
)
def test_how_a_value_is_found(value: Any, text: str, how: str, part: str) -> None:
    assert found(value, "another line", text) == (how, [1], part)


@pytest.mark.parametrize("value", ["Kim", "25.5", 25.5, "zebra", "2025-03-13", True, None, ""])
def test_what_is_not_there_has_no_place(value: Any) -> None:
    assert place(value, "Kimberley 25.55 on 2025-03-12") is None


def test_a_value_over_several_lines_has_a_box_on_each() -> None:
    where = place("12 Jalan Kenangan 3, Taman Melati", "12, JALAN", "KENANGAN 3, TAMAN", "MELATI X")
    assert where is not None and where["lines"] == [0, 1, 2] and where["match"] == "normalised"
    assert len(where["polygons"]) == 3
    # Of the last line the first word alone.
    (left, _top), (right, _), _low_right, _low_left = where["polygons"][2]
    assert (left, right) == (20, 20 + 6 * LETTER)


def test_of_several_places_the_one_beside_its_label() -> None:
    rows = (("Item", "9.00"), ("Subtotal", "9.00"), ("Total", "9.00"), ("Cash", "9.00"))
    assert found(9, *rows, name="total") == ("normalised", [5], "9.00")
    assert found(9, *rows, name="subtotal") == ("normalised", [3], "9.00")
    assert found("Kim", "Kim sold it", "Buyer: Kim", name="buyer")[1] == [1]


def test_the_engines_own_lines_go_first() -> None:
    pages = pages_of_texts(("9.00", "Total 9.00"))
    own = {"/total": (pages[0].lines[0],)}
    assert locate(pages, {"total": 9.0}, own)["/total"]["lines"] == [0]
    # What the lines don't say in so many words is there all the same.
    whole = locate(pages, {"currency": "MYR"}, {"/currency": (pages[0].lines[1],)})
    assert whole["/currency"]["text"] == "Total 9.00"


def test_nested_values_and_pages() -> None:
    pages = pages_of_texts(("one",), ("Drill bits 10.00",))
    where = locate(pages, {"items": [{"name": "Drill bits", "amount": 10.0}], "a/b": "one"})
    assert set(where) == {"/items/0/name", "/items/0/amount", "/a~1b"}
    assert where["/items/0/amount"]["page"] == 2 and where["/a~1b"]["page"] == 1


def test_a_box_is_as_tight_as_the_words_are_known() -> None:
    slanted = ((0.0, 0.0), (100.0, 10.0), (100.0, 30.0), (0.0, 20.0))
    line = TextLine(1, 0, "Total 9.00", slanted, ((0.0, 0.5), (0.6, 1.0)))
    assert tight_polygon(Place(line, 6, 10)) == ((60, 6), (100, 10), (100, 30), (60, 26))
    assert tight_polygon(Place(line, 0, 10)) == slanted
    without = TextLine(1, 0, "Total 9.00", slanted)
    assert tight_polygon(Place(without, 6, 10)) == slanted


def test_every_value_of_a_receipt_is_placed() -> None:
    values = {"company": "MILL STREET BAKERY SDN BHD", "total": 25.55, "date": "2025-03-12"}
    assert set(locate(pages_of_texts(RECEIPT), values)) == {"/company", "/total", "/date"}


SCHEMA = {
    "type": "object",
    "properties": {
        "total": {"type": ["number", "null"]},
        "date": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "kind": {"enum": ["cash", "card"]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
    },
    "$defs": {"item": {"type": "object", "properties": {"name": {"type": "string"}}}},
}


class TestCorrecting:
    @pytest.mark.parametrize(
        ("path", "given", "value"),
        [
            ("/total", "RM 1,234.50", 1234.5),
            ("/total", " ", None),
            ("/total", 7, 7),
            ("/date", "12 March 2025", "2025-03-12"),
            ("/count", "3", 3),
            ("/kind", "card", "card"),
            ("/items/0/name", " Bread ", "Bread"),
            ("/items", [{"name": "a"}], [{"name": "a"}]),
        ],
    )
    def test_a_text_becomes_the_fields_type(self, path: str, given: Any, value: Any) -> None:
        assert typed_value(given, path=path, schema=SCHEMA) == value

    @pytest.mark.parametrize(
        ("path", "given"),
        [
            *(("/total", "much"), ("/date", "soon"), ("/count", "2.5"), ("/kind", "coin")),
            *(("/count", ""), ("/items", [{"name": 1}]), ("/gone", 1), ("/items/x/name", "a")),
        ],
    )
    def test_what_is_no_value_of_the_field_is_refused(self, path: str, given: Any) -> None:
        with pytest.raises(ApplicationError):
            typed_value(given, path=path, schema=SCHEMA)

    def test_the_others_stay(self) -> None:
        values = {"total": 1, "items": [{"name": "a"}, {"name": "b"}]}
        changed = with_value(values, "/items/1/name", "c")
        assert changed == {"total": 1, "items": [{"name": "a"}, {"name": "c"}]}
        with pytest.raises(ApplicationError):
            with_value(values, "/items/2/name", "d")


def test_problems_are_said_by_place() -> None:
    problems = problems_of({"total": "x", "date": "2025-13-01", "count": 1}, SCHEMA)
    assert {one["path"] for one in problems} == {"/total", "/date"}


def test_a_schema_that_refers_to_itself_is_accepted() -> None:
    schema_check(
        {
            "type": "object",
            "properties": {"child": {"$ref": "#"}, "name": {"type": "string"}},
        }
    )
