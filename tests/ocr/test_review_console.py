"""Reviews in the console: the queue's page, who gets in, and where the links lead."""

from __future__ import annotations

from io import BytesIO

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from mlops.models import User
from ocr import services
from ocr.models import PageResult, PageReview
from tests.factories import (
    DocumentFactory,
    OcrJobFactory,
    PageResultFactory,
    StaffFactory,
    UserFactory,
    png,
)

pytestmark = pytest.mark.django_db

QUEUE = reverse("admin:ocr_pagereview_changelist")
START = reverse("admin:ocr_review_start")


@pytest.fixture
def minji() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def console(client: Client, minji: User) -> Client:
    client.force_login(minji)
    return client


def listed(console: Client, **query: str) -> list[PageResult]:
    return [row["result"] for row in console.get(QUEUE, query).context["rows"]]


def test_the_queue_lists_what_waits(console: Client, minji: User) -> None:
    worst, better = (PageResultFactory(mean_confidence=value) for value in (0.2, 0.8))
    services.review_flag(review=services.review_begin(result=better), user=minji, note="smudged")
    assert listed(console) == [worst]
    assert listed(console, status="flagged") == [better]
    assert "minji: smudged" in console.get(QUEUE, {"status": "flagged"}).content.decode()
    assert listed(console, engine="rapidocr", order="random", seed="x") == [worst]
    # Of what makes no sense the rest is used.
    assert listed(console, engine="no such", order="worst", job="x") == [worst]


def test_start_claims_and_opens_the_first(console: Client, minji: User) -> None:
    result = PageResultFactory()
    answer = console.post(START, {"order": "random", "seed": "audit"})
    assert answer.url == f"{reverse('admin:ocr_review', args=[result.pk])}?order=random&seed=audit"
    assert PageReview.objects.get().claimed_by == minji
    page = console.get(answer.url)
    assert page.context["config"]["queue"] == {"order": "random", "seed": "audit"}
    assert page.context["state"]["claimed_by"] == "minji"
    assert console.get(START).status_code == 405


def test_start_with_nothing_left_says_so(console: Client) -> None:
    answer = console.post(START, {}, follow=True)
    assert "Nothing is left to review" in answer.content.decode()


def test_looking_at_a_page_claims_nothing(console: Client) -> None:
    result = PageResultFactory()
    assert console.get(reverse("admin:ocr_review", args=[result.pk])).status_code == 200
    assert not PageReview.objects.exists()


def test_image_has_the_pixels_of_the_boxes(console: Client) -> None:
    document = DocumentFactory(content=png(300, 100))
    result = PageResultFactory(
        job=OcrJobFactory(document=document), rotation=270, width=100, height=300
    )
    answer = console.get(reverse("admin:ocr_review_image", args=[result.pk]))
    assert Image.open(BytesIO(answer.content)).size == (100, 300)
    small = console.get(reverse("admin:ocr_review_image", args=[result.pk]), {"max_side": 60})
    assert Image.open(BytesIO(small.content)).size == (20, 60)
    assert small["ETag"] != answer["ETag"]


def test_who_may_not(client: Client) -> None:
    result = PageResultFactory()
    client.force_login(StaffFactory(role="client"))
    for name, args in (
        ("ocr_pagereview_changelist", []),
        ("ocr_review", [result.pk]),
        ("ocr_review_image", [result.pk]),
    ):
        assert client.get(reverse(f"admin:{name}", args=args)).status_code == 403
    assert client.post(START).status_code == 403


def test_a_page_that_was_not_read_has_no_review(console: Client) -> None:
    failed = PageResultFactory(error="The page is damaged.", lines=[])
    assert console.get(reverse("admin:ocr_review", args=[failed.pk])).status_code == 404


def test_old_link_leads_to_the_page(console: Client) -> None:
    review = services.review_begin(result=PageResultFactory())
    answer = console.get(reverse("admin:ocr_pagereview_change", args=[review.pk]))
    assert answer.url == reverse("admin:ocr_review", args=[review.result_id])


def test_corrections_are_listed(console: Client, minji: User) -> None:
    review = services.review_begin(result=PageResultFactory())
    services.line_edit(review=review, user=minji, version=0, line_id="2", text="pencil, silver")
    page = console.get(reverse("admin:ocr_correction_changelist")).content.decode()
    assert "pencil silver" in page and "pencil, silver" in page and "minji" in page


def test_ways_in_from_document_job_and_viewer(client: Client) -> None:
    operator = StaffFactory(role="operator")
    client.force_login(operator)
    document = DocumentFactory(owner=UserFactory())
    jobs = [OcrJobFactory(document=document, status="succeeded") for _ in range(2)]
    result = PageResultFactory(job=jobs[0])
    page = client.get(reverse("admin:ocr_document_change", args=[document.pk])).content.decode()
    assert f"{QUEUE}?document={document.pk}" in page
    assert f"{reverse('admin:ocr_compare')}?document={document.pk}" in page
    page = client.get(reverse("admin:ocr_ocrjob_change", args=[jobs[0].pk])).content.decode()
    assert f"{QUEUE}?job={jobs[0].pk}" in page
    page = client.get(reverse("admin:ocr_viewer", args=[jobs[0].pk, 1])).content.decode()
    assert reverse("admin:ocr_review", args=[result.pk]) in page
