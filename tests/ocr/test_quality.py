"""What engines read against what people have accepted: scores, their sums, the API."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mlops.jobs import JobContext
from mlops.models import ApiKey, User
from ocr import services
from ocr.models import PageResult, PageReview, PageScore
from ocr.quality import QualityFilter, quality_groups, quality_scores, quality_series, worst_scores
from ocr.quality_rows import RULES, page_scores_update
from ocr.runner import run
from ocr.scoring import count, score
from tests.factories import (
    DocumentFactory,
    OcrJobFactory,
    PageResultFactory,
    StaffFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db

NO_FILTER = QualityFilter()


def read(document: Any, text: str, **fields: Any) -> PageResult:
    """Another job's reading of the document's first page."""
    owner = fields.pop("owner", document.owner)
    job = OcrJobFactory(document=document, owner=owner)
    return PageResultFactory(job=job, lines=[], text=text, **fields)


def accept(result: PageResult, text: str) -> PageReview:
    """A person's text for the page, as `review_accept` leaves it."""
    user = UserFactory(role="operator")
    review = services.review_open(result=result, user=user)
    PageReview.objects.filter(pk=review.pk).update(text=text)
    return services.review_accept(review=review, user=user, version=review.version)


@pytest.fixture
def operator() -> User:
    return UserFactory(role="operator")


def test_accepting_a_page_scores_every_reading_of_it() -> None:
    document = DocumentFactory()
    ours = read(document, "Total 12,50", engine="rapidocr", model_version="v1")
    theirs = read(document, "total 12.50", engine="tesseract", language="en", model_version="5")
    failed = read(document, "", engine="", language="", error="It broke.", model_version="")
    elsewhere = PageResultFactory()
    review = accept(ours, "Total  12.50\n")

    scores = {one.result_id: one for one in PageScore.objects.all()}
    assert scores.keys() == {ours.pk, theirs.pk, failed.pk} and elsewhere.pk not in scores
    one = scores[ours.pk]
    assert (one.errors, one.characters, one.word_errors, one.words) == (1, 11, 1, 2)
    assert (one.words_read, one.words_matched) == (2, 1)
    assert (one.engine, one.language, one.model_version) == ("rapidocr", "en", "v1")
    assert one.read_at == ours.created_at and one.review == review
    # Case counts: an annotator corrects it, too.
    assert scores[theirs.pk].errors == 1
    lost = scores[failed.pk]
    assert (lost.errors, lost.characters) == (11, 11)
    # What failed before an engine was chosen goes by what was asked for.
    assert (lost.engine, lost.language) == (failed.job.engine, failed.job.language)


def test_the_reading_counts_as_it_was_before_its_correction() -> None:
    result = PageResultFactory()
    user = UserFactory(role="annotator")
    review = services.review_open(result=result, user=user)
    services.line_edit(
        review=review, user=user, version=review.version, line_id="2", text="pencil, silver"
    )
    review.refresh_from_db()
    services.review_accept(review=review, user=user, version=review.version)
    one = PageScore.objects.get()
    assert (one.errors, one.characters) == (1, len("Shelf mark K-1037 pencil, silver"))


def test_scores_follow_the_review() -> None:
    result = PageResultFactory(text="abc", lines=[])
    user = UserFactory(role="operator")
    review = accept(result, "abd")
    assert PageScore.objects.get().errors == 1
    review = services.review_reopen(review=review, user=user)
    assert not PageScore.objects.exists()
    PageReview.objects.filter(pk=review.pk).update(text="xyz")
    review = services.review_accept(review=review, user=user, version=review.version)
    assert PageScore.objects.get().errors == 3
    services.review_reopen(review=review, user=user)
    services.review_flag(review=review, user=user, note="unreadable")
    assert not PageScore.objects.exists()


def test_the_latest_accepted_review_of_a_page_is_the_truth() -> None:
    document = DocumentFactory()
    first, second = read(document, "one"), read(document, "two")
    accept(first, "one")
    later = accept(second, "two")
    assert set(PageScore.objects.values_list("review", flat=True)) == {later.pk}
    assert dict(PageScore.objects.values_list("result", "errors")) == {first.pk: 3, second.pk: 0}
    services.review_reopen(review=later, user=UserFactory(role="operator"))
    assert dict(PageScore.objects.values_list("result", "errors")) == {first.pk: 0, second.pk: 3}


def test_a_new_reading_is_scored_and_nothing_is_done_twice() -> None:
    document = DocumentFactory()
    accept(read(document, "abc"), "abc")
    later = read(document, "abx")
    assert page_scores_update(page_id=later.page_id) == 2
    assert page_scores_update(page_id=later.page_id) == 2
    assert PageScore.objects.count() == 2 and PageScore.objects.get(result=later).errors == 1
    assert page_scores_update(page_id=PageResultFactory().page_id) == 0


def test_a_job_scores_what_it_read_of_an_accepted_page(fake_engines) -> None:
    """As a worker runs it, after the page was accepted."""
    document = DocumentFactory()
    accept(read(document, "width 24"), "width 24")
    job = OcrJobFactory(document=document, engine="fake", status="running", attempts=1, worker="w")
    run(job, JobContext(job))
    one = PageScore.objects.get(result__job=job)
    assert job.results.get().text.split() == ["width", "240", "faint"]
    assert (one.engine, one.model_version, one.errors) == ("fake", "fake-1", len("0 faint"))


def test_pages_taken_over_from_an_earlier_job_count_once() -> None:
    document = DocumentFactory()
    ours = read(document, "abc")
    copies = OcrJobFactory(document=document, reused_from=ours.job)
    PageResultFactory(job=copies, lines=[], text="abc")
    # The same file uploaded once more is another document, of which this is the only reading.
    twin = OcrJobFactory(reused_from=ours.job)
    elsewhere = PageResultFactory(job=twin, lines=[], text="abc")
    accept(ours, "abc")
    accept(elsewhere, "abc")
    assert set(PageScore.objects.values_list("result", flat=True)) == {ours.pk, elsewhere.pk}


def test_deleting_a_document_takes_its_scores_along() -> None:
    result = PageResultFactory()
    accept(result, "text")
    services.document_delete(document=result.job.document)
    assert not PageScore.objects.exists()


@pytest.fixture
def corpus() -> list[tuple[PageResult, str]]:
    """Two model versions of one engine and another engine, with the truth of each page."""
    readings = [
        ("rapidocr", "v1", "en", "a" * 90, "a" * 90),
        ("rapidocr", "v1", "en", "b" * 10, "x y"),
        ("rapidocr", "v2", "en", "one two", "two one"),
        ("tesseract", "5", "ko", "한글 문서", "한글 무서"),
        ("tesseract", "5", "ko", "", "noise"),
    ]
    made = []
    for engine, version, language, truth, text in readings:
        result = read(
            DocumentFactory(), text, engine=engine, model_version=version, language=language
        )
        accept(result, truth)
        made.append((result, truth))
    return made


def test_groups_are_the_scores_of_their_pages(corpus, operator: User) -> None:
    groups = quality_groups(quality_scores(operator, NO_FILTER))
    assert [(row["engine"], row["model_version"], row["pages"]) for row in groups] == [
        ("rapidocr", "v1", 2),
        ("rapidocr", "v2", 1),
        ("tesseract", "5", 2),
    ]
    for row in groups:
        pairs = [
            (truth, result.text)
            for result, truth in corpus
            if (result.engine, result.model_version) == (row["engine"], row["model_version"])
        ]
        expected = score(pairs, **RULES)
        for name in ("cer_micro", "cer_macro", "wer_micro", "wer_macro"):
            assert row[name] == pytest.approx(getattr(expected, name)), name
        assert row["word_f1"] == pytest.approx(expected.word_f1_micro)
        assert row["characters"] == sum(count(*pair, **RULES).characters for pair in pairs)
        assert row["first"] <= row["last"]


def test_filters_narrow_it_down(corpus, operator: User) -> None:
    def engines(**wanted: Any) -> list[tuple[str, str]]:
        rows = quality_groups(quality_scores(operator, QualityFilter(**wanted)))
        return [(row["engine"], row["model_version"]) for row in rows]

    assert engines(engine="tesseract") == [("tesseract", "5")]
    assert engines(language="en", model_version="v2") == [("rapidocr", "v2")]
    today = timezone.localdate()
    assert len(engines(since=today, until=today)) == 3
    assert engines(since=today + timedelta(days=1)) == []
    assert engines(until=today - timedelta(days=1)) == []


def test_series_has_a_row_a_week_and_version(corpus, operator: User) -> None:
    # A Sunday and the Monday after it: two weeks.
    days = [datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 2, 12, tzinfo=UTC)]
    for row, day in zip(PageScore.objects.order_by("pk"), [*days, *[days[1]] * 3], strict=True):
        PageScore.objects.filter(pk=row.pk).update(read_at=day)
    rows = quality_series(quality_scores(operator, QualityFilter(engine="rapidocr")), "week")
    assert [(str(r["period"]), r["model_version"], r["pages"], r["cer_micro"]) for r in rows] == [
        ("2026-02-23", "v1", 1, 0),
        ("2026-03-02", "v1", 1, 1),
        ("2026-03-02", "v2", 1, pytest.approx(6 / 7)),
    ]
    by_day = quality_series(quality_scores(operator, NO_FILTER), "day")
    assert [str(row["period"]) for row in by_day] == ["2026-03-01", *["2026-03-02"] * 3]
    (month, *_others) = quality_series(quality_scores(operator, NO_FILTER), "month")
    assert str(month["period"]) == "2026-03-01" and month["pages"] == 2


def test_worst_pages_first_and_faultless_ones_not_at_all(
    corpus, operator: User, django_assert_num_queries
) -> None:
    scores = quality_scores(operator, NO_FILTER)
    with django_assert_num_queries(2):
        rows = worst_scores(scores, 3)
        names = [row.result.page.document.name for row in rows]
        assert all(row.review.result.job_id for row in rows)
    assert [row.cer for row in rows] == [1, 1, pytest.approx(6 / 7)]
    assert names[2] == corpus[2][0].job.document.name


class TestApi:
    URL = "/api/v1/ocr/quality"

    def client(self, user: User) -> Client:
        _key, token = ApiKey.objects.create(user=user)
        return Client(headers={"Authorization": f"Bearer {token}"})

    def test_rows_and_series(self, corpus, operator: User) -> None:
        body = self.client(operator).get(self.URL, {"engine": "rapidocr", "interval": "day"}).json()
        assert body["rules"] == "NFC, case counts, white space collapsed"
        first = body["groups"][0]
        assert first.keys() == {
            *("engine", "language", "model_version", "pages", "characters", "words"),
            *("cer_micro", "cer_macro", "wer_micro", "wer_macro", "word_f1", "first", "last"),
        }
        assert (first["pages"], first["cer_micro"]) == (2, pytest.approx(0.1))
        assert {row["period"] for row in body["series"]} == {str(timezone.localdate())}
        everything = self.client(operator).get(f"{self.URL}/", {"language": ""}).json()
        assert len(everything["groups"]) == 3 and "series" not in everything

    def test_users_see_their_own_and_annotators_all(self, corpus) -> None:
        owner = corpus[0][0].job.owner
        assert [row["pages"] for row in self.client(owner).get(self.URL).json()["groups"]] == [1]
        assert self.client(UserFactory()).get(self.URL).json()["groups"] == []
        annotator = UserFactory(role="annotator")
        rows = self.client(annotator).get(self.URL).json()["groups"]
        assert sum(row["pages"] for row in rows) == 5
        assert Client().get(self.URL).status_code == 401

    @pytest.mark.parametrize(
        ("query", "param"),
        [({"since": "yesterday"}, "since"), ({"interval": "hour"}, "interval")],
    )
    def test_bad_filters_are_named(self, query: dict[str, str], param: str) -> None:
        answer = self.client(UserFactory()).get(self.URL, query)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param


class TestConsole:
    URL = "/admin/ocr/pagescore/"

    @pytest.fixture
    def console(self, client: Client) -> Client:
        client.force_login(StaffFactory(role="annotator"))
        return client

    def charts(self, page: str) -> list[dict[str, Any]]:
        return [json.loads(unescape(data)) for data in re.findall(r'data-value="([^"]*)"', page)]

    def test_says_how_to_get_figures(self, console: Client) -> None:
        page = console.get(self.URL).content.decode()
        assert "No page has been accepted yet" in page and "ocr_evaluate" in page
        assert reverse("admin:ocr_pagereview_changelist") in page and not self.charts(page)

    def test_charts_and_worst_pages(self, corpus, console: Client) -> None:
        page = console.get(self.URL).content.decode()
        bars, lines = self.charts(page)
        # Best first, in percent, with the number of pages in the label.
        assert [label[0] for label in bars["labels"]] == [
            "rapidocr · en",
            "rapidocr · en",
            "tesseract · ko",
        ]
        assert bars["labels"][0][1] == "v1, 2 pages" and bars["datasets"][0]["data"][0] == 10.0
        assert len(lines["labels"]) == 1 and len(lines["datasets"]) == 3
        by_label = {one["label"]: one["data"] for one in lines["datasets"]}
        assert by_label["rapidocr · en · v1"] == [10.0]
        worst = corpus[1][0]
        assert reverse("admin:ocr_review", args=[worst.pk]) in page
        assert reverse("admin:ocr_viewer", args=[worst.job_id, 1]) in page

    def test_filters(self, corpus, console: Client) -> None:
        page = console.get(self.URL, {"language": "ko"}).content.decode()
        assert [label[0] for label in self.charts(page)[0]["labels"]] == ["tesseract · ko"]
        assert '<option value="ko" selected>' in page
        page = console.get(self.URL, {"language": "ko", "engine": "rapidocr"}).content.decode()
        assert "No accepted page fits" in page
        PageScore.objects.update(read_at=timezone.now() - timedelta(days=200))
        assert "No accepted page fits" in console.get(self.URL).content.decode()
        assert self.charts(console.get(self.URL, {"period": "all"}).content.decode())

    def test_many_models_stay_legible(self, console: Client) -> None:
        for number in range(10):
            document = DocumentFactory()
            accept(read(document, "abc", model_version=f"m{number}"), "abd")
        page = console.get(self.URL).content.decode()
        bars, _lines = self.charts(page)
        assert len(bars["labels"]) == 8 and "the charts leave out the 2" in page
        assert all(f"m{number}</span>" in page for number in range(10))

    def test_only_for_those_who_may(self, corpus, client: Client) -> None:
        client.force_login(StaffFactory())
        assert client.get(self.URL).status_code == 403
        assert self.URL not in client.get("/admin/").content.decode()

    def test_card_on_the_dashboard(self, corpus, console: Client) -> None:
        page = console.get("/admin/").content.decode()
        assert "Character errors" in page and "5 pages in 30 days" in page and self.URL in page
