"""The formats of text, each opened by a reader of that format."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from lxml import etree, html
from markdown_it import MarkdownIt
from ocrmypdf.hocrtransform import HocrParser

from mlops import engines
from ocr import exports
from ocr.exports.page import JobPages
from ocr.languages import parse_languages
from ocr.models import OcrJob, PageResult, PageReview
from ocr.pages import Limits, open_pages
from ocr.reader import PageOutcome, ReadRequest, read_page
from ocr.results import job_json
from ocr.samples import multi_page_pdf
from tests.environment import DATA, ROOT
from tests.factories import DocumentFactory, OcrJobFactory
from tests.ocr.pdf_reading import approved, lines_of, words_of
from tests.ocr.printed import line, made, printed, read_job

pytestmark = pytest.mark.django_db

SCHEMAS = ROOT / "tests" / "data" / "schemas"
ALTO = {"a": "http://www.loc.gov/standards/alto/ns-v4#"}
PAGE = {"p": "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"}


def valid(content: bytes, schema: str) -> etree._Element:
    tree = etree.fromstring(content)
    etree.XMLSchema(etree.parse(SCHEMAS / schema)).assertValid(tree)
    return tree


def alto_lines(tree: etree._Element) -> list[str]:
    return [
        " ".join(word.get("CONTENT") for word in one.findall("a:String", ALTO))
        for one in tree.iterfind(".//a:TextLine", ALTO)
    ]


def page_lines(tree: etree._Element) -> list[str]:
    return [one.text for one in tree.iterfind(".//p:TextLine/p:TextEquiv/p:Unicode", PAGE)]


def hocr_lines(content: bytes, folder: Path) -> list[str]:
    """As OCRmyPDF reads them, which takes a page a file."""
    tree = etree.fromstring(content)
    body = tree.find("{*}body")
    found = []
    for page in list(body):
        for other in list(body):
            body.remove(other)
        body.append(page)
        path = folder / "page.hocr"
        path.write_bytes(etree.tostring(tree))
        element = HocrParser(path).parse()
        found += [" ".join(word.text for word in one.words) for one in element.lines]
    return found


def outcomes(path: Path) -> list[PageOutcome]:
    """What the default engine reads on the pages of a real file."""
    request = ReadRequest("rapidocr", parse_languages("en"), "rapidocr")
    with open_pages(path, dpi=150, limits=Limits()) as source:
        return [read_page(source, n, request, engines.cache("ocr")) for n in range(len(source))]


def stored(path: Path, read: list[PageOutcome]) -> OcrJob:
    document = DocumentFactory(content=path.read_bytes(), name=path.name)
    job = OcrJobFactory(document=document, status="succeeded")
    for page, outcome in zip(document.pages.order_by("number"), read, strict=True):
        fields = {name: getattr(outcome, name) for name in PageOutcome.__slots__}
        PageResult.objects.create(job=job, page=page, **fields)
    return job


@pytest.fixture(scope="module")
def receipt() -> tuple[Path, list[PageOutcome]]:
    path = DATA / "receipts" / "000.jpg"
    return path, outcomes(path)


@pytest.fixture(scope="module")
def two_pages(tmp_path_factory) -> tuple[Path, list[PageOutcome]]:
    path = tmp_path_factory.mktemp("two") / "two.pdf"
    multi_page_pdf(path, 2)
    return path, outcomes(path)


@pytest.mark.parametrize("which", [pytest.param("receipt", marks=pytest.mark.data), "two_pages"])
def test_every_format_by_a_reader_of_it(which: str, request, tmp_path: Path) -> None:
    job = stored(*request.getfixturevalue(which))
    results = list(job.results.select_related("page").order_by("page__number"))
    lines = [line["text"] for result in results for line in result.lines]
    assert len(lines) >= 4 * len(results)
    flat = " ".join(" ".join(lines).split())

    assert made(job, "txt").decode().split("\f")[0].strip() == results[0].text
    assert json.loads(made(job, "json")) == json.loads(json.dumps(job_json(job, results)))

    said = html.fromstring(
        MarkdownIt("gfm-like", {"linkify": False}).render(made(job, "md").decode())
    )
    assert letters(said.text_content()) == letters(flat)

    assert hocr_lines(made(job, "hocr"), tmp_path) == [" ".join(one.split()) for one in lines]
    assert alto_lines(valid(made(job, "alto"), "alto-4-3.xsd")) == [
        " ".join(one.split()) for one in lines
    ]
    assert [text for tree in page_trees(job) for text in page_lines(tree)] == lines

    rows = list(csv.DictReader(io.StringIO(made(job, "tsv").decode()), delimiter="\t", quoting=3))
    assert [row["text"] for row in rows] == [" ".join(one.split()) for one in lines]
    assert {int(row["page"]) for row in rows} == set(range(1, len(results) + 1))
    for row, one in zip(rows, (one for result in results for one in result.lines), strict=True):
        xs = [x for x, _y in one["polygon"]]
        assert abs(int(row["left"]) - min(xs)) <= 1 and abs(int(row["right"]) - max(xs)) <= 1

    path = tmp_path / "out.pdf"
    path.write_bytes(made(job, "pdf"))
    found = letters(" ".join(lines_of(path, "-raw")))
    # pdftotext puts lines that overlap in an order of its own.
    assert sorted(found) == sorted(letters(flat))
    for word, (left, top, right, bottom) in words_of(path):
        x, y = (left + right) / 2 * results[0].width, (top + bottom) / 2 * results[0].height
        assert any(inside(x, y, line) and word in line["text"] for line in results[0].lines), word
    assert approved(path)


def inside(x: float, y: float, line: dict[str, Any]) -> bool:
    xs, ys = zip(*line["polygon"], strict=True)
    return min(xs) <= x <= max(xs) and min(ys) <= y <= max(ys)


def page_trees(job: OcrJob) -> list[etree._Element]:
    content = made(job, "page")
    if exports.file_type(job, "page")[0] == ".page.xml":
        return [valid(content, "page-2019-07-15.xsd")]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return [valid(archive.read(name), "page-2019-07-15.xsd") for name in archive.namelist()]


def letters(text: str) -> str:
    return re.sub(r"\s|\f", "", text)


def block(kind: str, first: int, end: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "level": 0,
        "lines": [first, end],
        "rows": [],
        "box": [0, 0, 600, 300],
    } | more


@pytest.fixture
def invoice() -> OcrJob:
    """A heading, a table with an empty cell and a line outside its cells, and a paragraph."""
    lines = [
        line("Invoice", (20, 10, 200, 50)),
        line("Item", (20, 60, 100, 80)),
        line("Price | net", (300, 60, 400, 80)),
        line("Pencil", (20, 90, 100, 110)),
        line("* incl. VAT", (20, 120, 100, 140)),
        line("Please pay within thirty days, which is the cus-", (20, 200, 600, 220)),
        line("tomary term.", (20, 225, 150, 245)),
    ]
    blocks = [
        block("heading", 0, 1, level=1),
        block("table", 1, 5, rows=[[[1], [2]], [[3], []]]),
        block("text", 5, 7, box=[20, 200, 600, 245]),
    ]
    page = {"lines": lines, "blocks": blocks, "width": 640, "height": 300, "language": "en"}
    return read_job(printed(["x"], (640, 300)).bytes(), [page], name="a & b.png")


class TestLayout:
    def test_markdown(self, invoice: OcrJob) -> None:
        tree = html.fromstring(
            MarkdownIt("commonmark").enable("table").render(made(invoice, "md").decode())
        )
        assert tree.findtext(".//h1") == "Invoice"
        rows = [[cell.text for cell in row] for row in tree.iterfind(".//tr")]
        assert rows == [["Item", "Price | net"], ["Pencil", None]]
        said = [one.text_content() for one in tree.iter("p")]
        assert said == [
            "* incl. VAT",
            "Please pay within thirty days, which is the customary term.",
        ]

    def test_alto(self, invoice: OcrJob) -> None:
        tree = valid(made(invoice, "alto"), "alto-4-3.xsd")
        assert [one.text for one in tree.iterfind(".//a:fileName", ALTO)] == ["a & b.png"]
        (table,) = tree.iterfind(".//a:ComposedBlock", ALTO)
        assert table.get("TYPE") == "table"
        assert len(table.findall("a:TextBlock", ALTO)) == 4
        assert sorted(alto_lines(tree)) == sorted(texts(invoice))
        first = tree.find(".//a:TextBlock", ALTO)
        assert first.get("TAGREFS") == "tag_heading_1" and first.get("LANG") == "en"

    def test_page(self, invoice: OcrJob) -> None:
        (tree,) = page_trees(invoice)
        (table,) = tree.iterfind(".//p:TableRegion", PAGE)
        roles = [
            (int(one.get("rowIndex")), int(one.get("columnIndex")))
            for one in table.iterfind(".//p:TableCellRole", PAGE)
        ]
        assert roles == [(0, 0), (0, 1), (1, 0)]
        order = [one.get("regionRef") for one in tree.iterfind(".//p:RegionRefIndexed", PAGE)]
        assert order == ["region_1", "region_2", "region_3"]
        assert sorted(page_lines(tree)) == sorted(texts(invoice))

    def test_hocr(self, invoice: OcrJob, tmp_path: Path) -> None:
        content = made(invoice, "hocr")
        assert hocr_lines(content, tmp_path) == texts(invoice)
        page = HocrParser(tmp_path / "page.hocr").parse()
        assert (page.bbox.right, page.bbox.bottom, page.page_number) == (640, 300, 0)
        assert page.words[0].confidence == pytest.approx(0.9)


def texts(job: OcrJob) -> list[str]:
    return [line["text"] for result in job.results.all() for line in result.lines]


@pytest.mark.parametrize("form", exports.FORMATS)
def test_pages_that_failed_or_are_empty_keep_their_place(form: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    image = printed(["x"]).image
    image.save(content, "TIFF", save_all=True, append_images=[image, image])
    pages = [
        {"error": "The engine fell over."},
        {"width": 700, "height": 400},
        {"lines": [line("The third\x01 page")], "width": 700, "height": 400},
    ]
    job = read_job(content.getvalue(), pages)
    written = made(job, form)
    match form:
        case "txt":
            assert written.decode().split("\f")[:2] == ["\n", "\n"]
        case "json":
            assert [page["error"] for page in json.loads(written)["pages"]] == [
                *("The engine fell over.", None, None)
            ]
        case "md":
            assert written == b"\n---\n\n\n---\n\nThe third page\n"
        case "hocr":
            assert len(etree.fromstring(written).findall(".//{*}div[@class='ocr_page']")) == 3
        case "alto":
            tree = valid(written, "alto-4-3.xsd")
            assert [
                len(page.findall(".//a:String", ALTO)) for page in tree.find("a:Layout", ALTO)
            ] == [*(0, 0, 3)]
        case "page":
            assert [page_lines(tree) for tree in page_trees(job)] == [[], [], ["The third page"]]
        case "tsv":
            assert len(written.splitlines()) == 2
        case "pdf":
            path = tmp_path / "a.pdf"
            path.write_bytes(written)
            assert lines_of(path, "-l", "2") == []
            assert "page" in lines_of(path, "-f", "3")[0]


def test_xml_of_any_text_is_well_formed() -> None:
    text = "a<b>&\"'\x0b\x1f\ufffe tail"
    job = OcrJobFactory()
    PageResult.objects.create(
        job=job,
        page=job.document.pages.get(),
        width=400,
        height=90,
        lines=[line(text)],
    )
    for form in ("hocr", "alto", "page"):
        assert ET.fromstring(made(job, form)).tag.startswith("{http://")
        assert b"a&lt;b&gt;" in made(job, form)


def test_lines_outside_every_block_are_written_too() -> None:
    lines = [line(text, (10, 40 * n, 300, 40 * n + 30)) for n, text in enumerate("abcde")]
    page = {"lines": lines, "blocks": [block("text", 1, 2), block("text", 3, 4)]}
    job = read_job(printed(["x"]).bytes(), [page | {"width": 700, "height": 400}])
    (read,) = JobPages(job)
    assert [(one.first, one.end) for one in read.blocks] == [(n, n + 1) for n in range(5)]


def test_corrected_pages_are_written_as_corrected() -> None:
    """A review's own keys are not; a page that nobody touched is as it was read."""
    content = io.BytesIO()
    image = printed(["x"]).image
    image.save(content, "TIFF", save_all=True, append_images=[image])
    pages = [{"lines": [line(text)], "width": 700, "height": 400} for text in ("Wrqng", "Right")]
    job = read_job(content.getvalue(), pages)
    lines = [line("Wrong", id="1", rev=3, by="minji")]
    PageReview.objects.create(result=job.results.first(), lines=lines, text="Wrong")
    assert made(job, "txt").decode() == "Wrong\n\fRight\n"
    first = json.loads(made(job, "json"))["pages"][0]["lines"][0]
    assert first["text"] == "Wrong" and not first.keys() & {"id", "rev", "by"}
    for form in ("md", "hocr", "alto", "tsv"):
        assert b"Wrong" in made(job, form) and b"Wrqng" not in made(job, form)
