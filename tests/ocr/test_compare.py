"""Two readings of one page: how words are paired, what the API gives, what the console shows."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from mlops.models import User
from ocr.compare import Comparison, compare
from ocr.models import OcrJob, PageResult
from ocr.samples import multi_page_pdf
from tests.factories import (
    DocumentFactory,
    OcrJobFactory,
    PageResultFactory,
    StaffFactory,
    UserFactory,
)


def reading(*texts: str, error: str = "") -> PageResult:
    lines = [{"text": text, "polygon": [], "confidence": 1} for text in texts]
    return PageResult(lines=lines, text="\n".join(texts), error=error)


def shown(comparison: Comparison) -> list[tuple[str, str]]:
    """Each row's two sides, what differs in brackets."""
    return [
        tuple(
            " ".join(
                f"[{piece.text}]" if piece.differs else piece.text for piece in row.pieces(side)
            )
            for side in ("a", "b")
        )
        for row in comparison.rows
    ]


def test_words_are_paired_line_by_line() -> None:
    found = compare(
        reading("Ledger of the mill", "12 sacks of rye", "3 sacks of oats"),
        reading("Ledger of the rnill", "12 sacks of", "rye", "3 sacks oats"),
    )
    assert shown(found) == [
        ("Ledger of the [mill]", "Ledger of the [rnill]"),
        ("12 sacks of rye", "12 sacks of rye"),
        ("3 sacks [of] oats", "3 sacks oats"),
    ]
    assert [sorted(row.lines["b"]) for row in found.rows] == [[0], [1, 2], [3]]
    assert (found.words, found.differing) == ({"a": 12, "b": 11}, {"a": 2, "b": 1})
    # rn for m is two edits, and "of " three; the text of A has 49 characters.
    assert found.cer == pytest.approx(5 / 50, abs=0.02)


def test_a_line_that_one_side_lacks_is_a_row_of_its_own() -> None:
    found = compare(reading("first", "second"), reading("first", "a new line", "second", "tail"))
    assert shown(found) == [
        ("first", "first"),
        ("", "[a new line]"),
        ("second", "second"),
        ("", "[tail]"),
    ]
    found = compare(reading("first", "gone", "second"), reading("first", "second"))
    assert shown(found) == [("first", "first"), ("[gone]", ""), ("second", "second")]


def test_letter_case_differs_but_unicode_form_does_not() -> None:
    assert shown(compare(reading("Rye"), reading("rye"))) == [("[Rye]", "[rye]")]
    assert not compare(reading("한국"), reading("한국")).rows[0].differs


def test_nothing_read() -> None:
    assert compare(reading(), reading()).rows == []
    failed = compare(reading("some text"), reading(error="damaged"))
    assert failed.cer == 1 and shown(failed) == [("[some text]", "")]


# -- the API and the console ----------------------------------------------------------------------


@pytest.fixture
def annotator(db: None) -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def jobs(annotator: User, tmp_path) -> tuple[OcrJob, OcrJob]:
    multi_page_pdf(tmp_path / "two.pdf", 2)
    document = DocumentFactory(
        owner=annotator, name="two.pdf", content=(tmp_path / "two.pdf").read_bytes()
    )
    a = OcrJobFactory(document=document, engine="rapidocr", status="succeeded")
    b = OcrJobFactory(document=document, engine="tesseract", status="succeeded")
    first, second = document.pages.order_by("number")
    for job, word in ((a, "silver"), (b, "sliver")):
        PageResultFactory(job=job, page=first, engine=job.engine)
        lines = [{"text": f"pencil {word}", "confidence": 0.9, "polygon": [[1, 1]] * 4}]
        PageResultFactory(job=job, page=second, engine=job.engine, lines=lines)
    return a, b


@pytest.fixture
def console(client: Client, annotator: User) -> Client:
    client.force_login(annotator)
    return client


def test_api(console: Client, jobs: tuple[OcrJob, OcrJob]) -> None:
    a, b = jobs
    answer = console.get(f"/api/v1/ocr/compare?a={a.pk}&b={b.pk}").json()
    assert answer["document"] == str(a.document_id)
    assert (answer["a"]["engine"], answer["b"]["engine"]) == ("rapidocr", "tesseract")
    same, other = answer["pages"]
    assert (same["page"], same["cer"], same["differences"]) == (1, 0, [])
    assert other["differing_words"] == {"a": 1, "b": 1}
    assert other["cer"] == pytest.approx(2 / 13)
    assert other["differences"] == [
        {
            "a": {"text": "pencil silver", "differing": ["silver"], "lines": [0]},
            "b": {"text": "pencil sliver", "differing": ["sliver"], "lines": [0]},
        }
    ]
    one = console.get(f"/api/v1/ocr/compare?a={a.pk}&b={b.pk}&page=1").json()
    assert [page["page"] for page in one["pages"]] == [1]


def test_api_refuses(console: Client, jobs: tuple[OcrJob, OcrJob], annotator: User) -> None:
    a, _ = jobs
    elsewhere = OcrJobFactory(document__owner=annotator)
    strangers = OcrJobFactory(document__owner=UserFactory())
    for other, status, code in (
        (elsewhere.pk, 400, "different_documents"),
        (strangers.pk, 404, "not_found"),
        (uuid.uuid4(), 404, "not_found"),
    ):
        answer = console.get(f"/api/v1/ocr/compare?a={a.pk}&b={other}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["param"] == "b"
    assert console.get(f"/api/v1/ocr/compare?a={a.pk}&b=1").status_code == 400
    assert Client().get(f"/api/v1/ocr/compare?a={a.pk}&b={a.pk}").status_code == 401


def test_console_opens_the_first_page_that_differs(
    console: Client, jobs: tuple[OcrJob, OcrJob]
) -> None:
    a, b = jobs
    from_document = console.get(
        reverse("admin:ocr_compare"), {"document": a.document_id}, follow=True
    )
    assert from_document.context["number"] == 2
    page = from_document.content.decode()
    assert "<del>silver</del>" in page and "<ins>sliver</ins>" in page
    assert dict(from_document.context["pair"]["facts"])["CER between them"] == "15.4 %"
    assert from_document.context["different"] == [2]

    first = console.get(reverse("admin:ocr_compare"), {"a": a.pk, "b": b.pk, "page": 1})
    assert "Both read the same words." in first.content.decode()
    assert first.context["next_url"].endswith("page=2")
    beyond = console.get(reverse("admin:ocr_compare"), {"a": a.pk, "b": b.pk, "page": 9})
    assert "has not read page 9" in beyond.content.decode()


def test_console_needs_two_jobs(console: Client, annotator: User) -> None:
    job = OcrJobFactory(document__owner=annotator)
    lone = console.get(reverse("admin:ocr_compare"), {"document": job.document_id}, follow=True)
    assert "Read the document once more" in lone.content.decode()
    for query in ({}, {"a": "x", "b": "y"}, {"a": job.pk, "b": uuid.uuid4()}):
        answer = console.get(reverse("admin:ocr_compare"), query)
        assert answer.status_code == 302
    strangers = OcrJobFactory()
    asked = console.get(reverse("admin:ocr_compare"), {"document": strangers.document_id})
    assert asked.status_code == 404


@pytest.mark.django_db
def test_console_is_not_for_clients(client: Client) -> None:
    client.force_login(StaffFactory(role="client"))
    assert client.get(reverse("admin:ocr_compare")).status_code == 403
