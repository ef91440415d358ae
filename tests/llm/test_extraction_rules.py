"""The rules: what they find on papers in English and Korean, for templates and any other schema."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llm.extraction.amounts import amounts_in, parse_amount
from llm.extraction.base import Extraction, Task
from llm.extraction.dates import dates_in, month_comes_first, parse_date, times_in
from llm.extraction.fields import Field
from llm.extraction.kinds import kind_of
from llm.extraction.rows import rows_of
from llm.extraction.rules import RulesEngine
from llm.extraction.scoring import compare, figures, macro, micro, score
from llm.extraction.templates import BUILT_IN, ID_CARD, INVOICE, RECEIPT
from tests.llm import papers
from tests.llm.papers import pages_of_texts

Paper = tuple[str | tuple[str, ...], ...]


def extract(schema: dict[str, Any], *pages: Paper) -> Extraction:
    return RulesEngine().extract(pages_of_texts(*pages), Task(schema))


def values(schema: dict[str, Any], *pages: Paper) -> dict[str, Any]:
    return extract(schema, *pages).values


def one(name: str, *texts: str | tuple[str, ...], **schema: Any) -> Any:
    """The value of a schema's only field."""
    asked = {"type": "object", "properties": {name: {"type": "string", **schema}}}
    return values(asked, texts).get(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Total : 9.00", ["9.00"]),
        ("TOTAL ROUNDED 33.90 RM 33.90", ["33.90", "33.90"]),
        ("-RM 0.02", ["-0.02"]),
        ("(120.00)", ["-120.00"]),
        ("1,234,567원", ["1234567"]),
        ("1.234,50 €", ["1234.50"]),
        ("$1,234.50", ["1234.50"]),
        ("CHANGE RM .00", ["0.00"]),
        ("S5.50", ["5.50"]),
        ("12/03/2018 10:25:49", []),
        ("GST @6% 28.40", ["28.40"]),
        ("03-9221345", []),
    ],
)
def test_sums_as_they_are_printed(text: str, found: list[str]) -> None:
    assert [amount.value for amount in amounts_in(text)] == [Decimal(one) for one in found]


def test_what_looks_like_money() -> None:
    assert [amount.money for amount in amounts_in("2 at 4.50, RM9")] == [False, True, True]
    assert parse_amount("no number") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12-01-19 21:13", "2019-01-12"),
        ("05 Mar 2018", "2018-03-05"),
        ("Oct 3, 2016 12:16", "2016-10-03"),
        ("2016-07-31", "2016-07-31"),
        ("2025년 3월 4일", "2025-03-04"),
        ("2018. 3. 4.", "2018-03-04"),
        ("27032018 No", "2018-03-27"),
        ("3rd February 2025", "2025-02-03"),
        ("03/25/2018", "2018-03-25"),
    ],
)
def test_dates_as_they_are_printed(text: str, found: str) -> None:
    assert parse_date(text) == date.fromisoformat(found)


def test_what_is_no_date() -> None:
    assert not dates_in("99/99/2018") and not dates_in("192.168.100.200")


def test_a_document_says_whether_the_month_comes_first() -> None:
    assert month_comes_first(["03/25/2018"]) and not month_comes_first(["25/03/2018"])
    schema = {"type": "object", "properties": {"date": {"type": "string", "format": "date"}}}
    paper = ("Date: 03/04/2018", "printed 03/25/2018")
    assert values(schema, paper) == {"date": "2018-03-04"}


def test_times_on_the_24_hour_clock() -> None:
    found = [text for text, _start, _end in times_in("8:13:39 PM, 12:05 am, 14시 21분")]
    assert found == ["20:13:39", "00:05", "14:21"]


def test_lines_side_by_side_are_a_row_also_where_the_page_leans() -> None:
    page = pages_of_texts((("Total", "9.00"), ("Cash", "10.00")))[0]
    assert [row.text for row in rows_of(page)] == ["Total 9.00", "Cash 10.00"]


class TestReceipt:
    def test_english(self) -> None:
        found = extract(RECEIPT.schema, papers.RECEIPT)
        assert found.problems == ()
        assert found.values == {
            "company": "MILL STREET BAKERY SDN BHD",
            "date": "2025-03-12",
            "address": "12, JALAN KENANGA 3, TAMAN MELATI, 53100 KUALA LUMPUR",
            "total": 25.55,
            "tax": 1.45,
            "currency": "MYR",
        }
        assert [line.text for line in found.sources["/total"]] == ["25.55"]

    def test_korean(self) -> None:
        assert values(RECEIPT.schema, papers.KOREAN_RECEIPT) == {
            "company": "한강서점",
            "date": "2025-03-12",
            "address": "서울특별시 마포구 독막로 12길 5",
            "total": 22000,
            "tax": 2000,
            "currency": "KRW",
        }

    @pytest.mark.parametrize(
        ("sums", "total"),
        [
            # What is paid is the rounded sum.
            ((("Total", "33.92"), ("Total Rounded", "33.90"), ("Cash", "50.00")), 33.9),
            # In the table of taxes "Total" is another sum.
            ((("TOTAL", "11.60"), "GST Summary", ("Total", "10.94", "0.66")), 11.6),
            # A count is no sum.
            ((("Total Qty: 5", "87.45"), ("Total Sales (Inclusive)", "90.00")), 90),
            # The total can't be read: what was given less what came back says it.
            (("Total 2S.", ("Cash", "50.00"), ("Change", "25.00")), 25),
            ((("Subtotal", "20.40"), ("Cash", "20.40")), 20.4),
            # The sum stands below its label.
            (("GRAND TOTAL", "14.85"), 14.85),
            # Nothing is labelled: the largest sum.
            ((("bread", "3.10"), ("butter", "4.20")), 4.2),
        ],
    )
    def test_which_sum_is_the_total(self, sums: Paper, total: float) -> None:
        assert values(RECEIPT.schema, ("SHOP SDN BHD", *sums))["total"] == total

    def test_what_is_not_there_is_null(self) -> None:
        found = values(RECEIPT.schema, ("thank you",))
        assert found["total"] is None and found["date"] is None and found["address"] is None


INVOICE_PAPER: Paper = (
    ("HARBOUR TOOLS LTD", "INVOICE"),
    ("8 Dock Road, Westerby 41200", "Invoice No: INV-2025-118"),
    ("Telephone 0155 274 886", "Invoice Date: 3 February 2025"),
    ("Reg. No. 201701-A", "Due 5 March 2025"),
    "Bill To:",
    "Fennel & Brook Imaging",
    "Item  Qty  Price  Amount",
    ("1 Drill bits", "1,400", "2.50", "10.00"),
    ("2 Hammer, large", "1", "18.00", "18.00"),
    ("Subtotal", "28.00"),
    ("VAT 20%", "5.60"),
    ("Total EUR", "33.60"),
)


def test_invoice_with_its_items() -> None:
    found = extract(INVOICE.schema, INVOICE_PAPER)
    assert found.problems == ()
    assert found.values == {
        "invoice_number": "INV-2025-118",
        "invoice_date": "2025-02-03",
        "due_date": "2025-03-05",
        "seller": "HARBOUR TOOLS LTD",
        "seller_registration_number": "201701-A",
        "seller_address": "8 Dock Road, Westerby 41200",
        "buyer": "Fennel & Brook Imaging",
        "subtotal": 28.0,
        "tax": 5.6,
        "total": 33.6,
        "currency": "EUR",
        "items": [
            {"name": "Drill bits", "quantity": 1400, "unit_price": 2.5, "amount": 10.0},
            {"name": "Hammer, large", "quantity": 1, "unit_price": 18.0, "amount": 18.0},
        ],
    }
    assert found.sources["/items/1/amount"][0].text == "2 Hammer, large"


def test_korean_tax_invoice() -> None:
    found = values(
        INVOICE.schema,
        (
            "전자세금계산서",
            ("승인번호: 20250312-41000-ab12", "작성일자: 2025년 3월 12일"),
            ("공급자 상호: (주)한빛상사", "공급받는자: 남산도서관"),
            ("사업자등록번호: 123-45-67890", "대표자: 김민지"),
            "주소: 서울특별시 중구 세종대로 110",
            ("공급가액", "1,000,000"),
            ("세액", "100,000"),
            ("합계금액", "1,100,000원"),
        ),
    )
    assert found["invoice_number"] == "20250312-41000-ab12"
    assert (found["seller"], found["buyer"]) == ("(주)한빛상사", "남산도서관")
    assert found["seller_registration_number"] == "123-45-67890"
    assert found["seller_address"] == "서울특별시 중구 세종대로 110"
    assert (found["subtotal"], found["tax"], found["total"]) == (1000000, 100000, 1100000)
    assert found["currency"] == "KRW" and found["items"] == []


def test_id_cards() -> None:
    card: Paper = (
        "주민등록증",
        "김민지",
        "900312-2123456",
        "서울특별시 마포구 독막로 12길 5",
        "101동 203호",
        "2015. 4. 1.",
    )
    found = values(ID_CARD.schema, card)
    assert found["document_type"] == "주민등록증" and found["name"] == "김민지"
    assert found["id_number"] == "900312-2123456" and found["birth_date"] == "1990-03-12"
    assert found["address"] == "서울특별시 마포구 독막로 12길 5 101동 203호"
    licence: Paper = (
        "DRIVING LICENCE",
        "Name: JANE MARY DOE",
        "Licence No: DOE-99 12345",
        "Date of birth: 12.03.1990",
        "Sex: F   Nationality: British",
        "Issued on: 01.04.2015",
        "Valid until: 31.03.2025",
        "Address: 12 Mill Street, Westerby",
    )
    assert values(ID_CARD.schema, licence) == {
        "document_type": "DRIVING LICENCE",
        "name": "JANE MARY DOE",
        "id_number": "DOE-99 12345",
        "birth_date": "1990-03-12",
        "sex": "F",
        "nationality": "British",
        "address": "12 Mill Street, Westerby",
        "issue_date": "2015-04-01",
        "expiry_date": "2025-03-31",
    }


class TestAnySchema:
    """Fields that no kind is known for: by label, type, enum, pattern and format."""

    def test_by_the_fields_own_name_or_title(self) -> None:
        assert one("vesselName", "Vessel Name: MV Morning Star") == "MV Morning Star"
        assert one("v", "Ship: Star", title="Ship") == "Star"
        assert one("v", "선박명 한라호", description="name of the ship (선박명)") == "한라호"

    def test_below_its_label(self) -> None:
        assert one("berth", ("Berth", "Crane"), ("12 B", "4")) == "12 B"

    def test_numbers_choices_patterns_and_nested_objects(self) -> None:
        weight = {"type": "number"}
        assert one("gross_weight", ("Gross weight", "12,400.5 kg"), **weight) == 12400.5
        assert one("port", "Port: Busan", "Incheon", enum=["Busan", "Incheon"]) == "Busan"
        assert one("port", "Busan or Incheon", enum=["Busan", "Incheon"]) is None
        assert one("box", "Container MSCU1234567", pattern=r"[A-Z]{4}\d{7}") == "MSCU1234567"
        assert one("inspected", "Inspected: yes", type="boolean") is True
        nested = {
            "type": "object",
            "properties": {
                "seller": {"$ref": "#/$defs/party"},
            },
            "$defs": {
                "party": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "phone": {"type": "string"}},
                }
            },
        }
        paper = ("HARBOUR TOOLS LTD", "Tel: 02-123-4567")
        assert values(nested, paper) == {
            "seller": {"name": "HARBOUR TOOLS LTD", "phone": "02-123-4567"}
        }

    def test_over_several_pages(self) -> None:
        schema = {"type": "object", "properties": {"total": {"type": "number"}}}
        found = extract(schema, ("A LTD", "page one"), (("Total", "7.50"),))
        assert found.values == {"total": 7.5} and found.sources["/total"][0].page == 2

    @pytest.mark.parametrize(
        ("name", "schema", "kind"),
        [
            ("invoiceNumber", {}, "invoice_number"),
            ("vendor_name", {}, "company"),
            ("사업자등록번호", {}, "registration_number"),
            ("x", {"description": "The due date of the bill"}, "due_date"),
            ("grand_total", {"type": "number"}, "total"),
            ("items", {"type": "array"}, "items"),
            ("items", {"type": "string"}, None),
            ("colour", {}, None),
        ],
    )
    def test_what_a_field_asks_for(self, name: str, schema: dict, kind: str | None) -> None:
        found = kind_of(Field((name,), schema, False))
        assert (found and found.name) == kind


def test_the_built_in_templates_ask_for_nothing_unknown() -> None:
    for template in BUILT_IN:
        for name, schema in template.schema["properties"].items():
            assert kind_of(Field((name,), schema, False)) is not None, f"{template.name}: {name}"


class TestScoring:
    def test_dates_and_sums_by_meaning_texts_by_letters(self) -> None:
        assert compare("25/12/2018", "2018-12-25") == 1
        assert compare("25/12/2018", "2018-12-26") == 0
        assert compare("RM33.90", 33.9) == 1 and compare("$8.20", 8.2) == 1
        assert compare("9.00", 90.0) == 0
        assert compare("NO. 5, JALAN 3", "no 5 jalan-3") == 1
        assert 0.9 < compare("NO. 5, JALAN KENANGA", "NO. S, JALAN KENANGA") < 1
        assert compare("anything", None) == 0

    def test_figures_by_field_micro_and_macro(self) -> None:
        scores = score("a", {"total": "9.00", "company": "ABC", "date": ""}, {"total": 9})
        scores += score("b", {"total": "1.00"}, {"total": 2})
        by_field = {one.field: one for one in figures(scores)}
        assert set(by_field) == {"total", "company"}
        total, company = by_field["total"], by_field["company"]
        assert (total.documents, total.exact, total.missing, total.wrong) == (2, 0.5, 0, 1)
        assert (company.exact, company.missing, company.wrong) == (0, 1, 0)
        assert micro(scores).exact == pytest.approx(1 / 3)
        assert macro(figures(scores)).exact == pytest.approx(0.25)
