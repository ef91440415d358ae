"""Which pages wait for a review, in which order, and for whom."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from mlops.models import User
from ocr import services
from ocr.models import PageResult, PageReview
from ocr.review_queue import QueueFilter, disagreement, queue_results
from tests.factories import (
    OcrJobFactory,
    PageResultFactory,
    StaffFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def minji() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def jun() -> User:
    return StaffFactory(username="jun", role="annotator")


def waiting(user: User, **wanted: Any) -> list[int]:
    return [result.pk for result in queue_results(user, QueueFilter(**wanted))]


def second_reading(result: PageResult, engine: str, text: str, **given: Any) -> PageResult:
    job = OcrJobFactory(document=result.job.document, engine=engine)
    return PageResultFactory(job=job, engine=engine, text=text, **given)


# -- order ----------------------------------------------------------------------------------------


def test_least_certain_first(minji: User) -> None:
    sure, unsure = (PageResultFactory(mean_confidence=value) for value in (0.9, 0.4))
    unknown = PageResultFactory(mean_confidence=None)
    assert waiting(minji) == [unknown.pk, unsure.pk, sure.pk]


def test_a_sample_is_the_same_for_everybody_who_names_it(minji: User, jun: User) -> None:
    PageResultFactory.create_batch(12)
    drawn = waiting(minji, order="random", seed="audit")
    assert sorted(drawn) == sorted(PageResult.objects.values_list("pk", flat=True))
    assert drawn == waiting(jun, order="random", seed="audit")
    other = waiting(minji, order="random", seed="another")
    assert other != drawn and sorted(other) == sorted(drawn)


def test_where_engines_disagree_most(minji: User) -> None:
    alike, apart, far = (PageResultFactory(text="twelve sacks of rye") for _ in range(3))
    alone = PageResultFactory(text="read once")
    second_reading(alike, "tesseract", "Twelve  sacks of rye")
    surer = second_reading(apart, "tesseract", "twelve sacks of eye", mean_confidence=0.99)
    second_reading(far, "tesseract", "nothing in common", mean_confidence=0.1)
    # The same engine's second reading is no other opinion.
    second_reading(alone, "rapidocr", "quite another text")
    found = queue_results(minji, QueueFilter(order="disagreement"))
    assert [result.pk for result in found] == [far.pk, surer.pk]
    assert found[1].disagreement == pytest.approx(1 / 19)
    assert found[0].disagreement > 0.5


def test_disagreement_is_the_same_from_both_sides() -> None:
    assert disagreement("abcd", "abxd") == disagreement("abxd", "abcd") == 0.25
    assert disagreement("", "abc") == disagreement("abc", "") == 1
    assert disagreement("", "") == 0


# -- what is in it --------------------------------------------------------------------------------


def test_filters(minji: User) -> None:
    one = PageResultFactory(language="ko")
    two = second_reading(one, "tesseract", "other")
    three = PageResultFactory()
    assert sorted(waiting(minji, document=one.job.document_id)) == [one.pk, two.pk]
    assert waiting(minji, job=three.job_id) == [three.pk]
    assert waiting(minji, engine="tesseract") == [two.pk]
    assert waiting(minji, language="ko") == [one.pk]


def test_failed_pages_have_nothing_to_review(minji: User) -> None:
    PageResultFactory(error="The page is damaged.", lines=[])
    assert waiting(minji) == []


def test_a_page_accepted_in_one_reading_waits_in_none(minji: User) -> None:
    one = PageResultFactory()
    second_reading(one, "tesseract", "other")
    flagged = PageResultFactory()
    services.review_flag(review=services.review_begin(result=flagged), user=minji)
    services.review_accept(review=services.review_begin(result=one), user=minji, version=0)
    assert waiting(minji) == []
    assert waiting(minji, status="accepted") == [one.pk]
    assert waiting(minji, status="flagged") == [flagged.pk]


def test_own_pages_unless_one_reviews_everybodys(minji: User) -> None:
    client, operator = UserFactory(), StaffFactory(role="operator")
    mine = PageResultFactory(job__document__owner=client)
    # Read for the client by somebody else.
    lent = PageResultFactory(job__document__owner=client, job__owner=operator)
    PageResultFactory()
    assert sorted(waiting(client)) == [mine.pk, lent.pk]
    assert len(waiting(minji)) == len(waiting(operator)) == 3


# -- claims ---------------------------------------------------------------------------------------


def test_two_annotators_get_different_pages(minji: User, jun: User) -> None:
    worst, better = (PageResultFactory(mean_confidence=value) for value in (0.3, 0.6))
    assert services.review_next(user=minji, wanted=QueueFilter()).result == worst
    assert services.review_next(user=jun, wanted=QueueFilter()).result == better
    assert services.review_next(user=StaffFactory(role="annotator"), wanted=QueueFilter()) is None
    # Asked again without having finished, it is the same page.
    assert services.review_next(user=minji, wanted=QueueFilter()).result == worst
    skipped = services.review_next(user=minji, wanted=QueueFilter(), skip=[worst.pk])
    assert skipped is None


def test_a_claim_runs_out_or_is_given_back(minji: User, jun: User) -> None:
    PageResultFactory()
    review = services.review_next(user=minji, wanted=QueueFilter())
    assert services.review_next(user=jun, wanted=QueueFilter()) is None
    services.review_release(review=review, user=jun)
    assert services.review_next(user=jun, wanted=QueueFilter()) is None
    PageReview.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert services.review_next(user=jun, wanted=QueueFilter()) == review
    services.review_release(review=review, user=jun)
    assert services.review_next(user=minji, wanted=QueueFilter()) == review


def test_another_reading_of_a_claimed_page_is_left_alone(minji: User, jun: User) -> None:
    one = PageResultFactory(mean_confidence=0.2)
    second_reading(one, "tesseract", "other", mean_confidence=0.5)
    services.review_next(user=minji, wanted=QueueFilter())
    assert waiting(jun) == []


def test_a_change_renews_the_claim(minji: User) -> None:
    review = services.review_open(result=PageResultFactory(), user=minji)
    soon = timezone.now() + timedelta(seconds=5)
    PageReview.objects.update(claimed_until=soon)
    services.line_edit(review=review, user=minji, version=0, line_id="1", text="other")
    assert PageReview.objects.get().claimed_until > soon + timedelta(minutes=5)


@pytest.mark.django_db(transaction=True)
def test_eight_who_ask_at_once_get_eight_pages() -> None:
    PageResultFactory.create_batch(8)
    users = StaffFactory.create_batch(8, role="annotator")
    got: list[int] = []

    def ask(user: User) -> None:
        try:
            got.append(services.review_next(user=user, wanted=QueueFilter()).result_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=[user]) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == 8
