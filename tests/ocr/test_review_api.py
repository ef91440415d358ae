"""The review API: who may, what is answered, and what a conflict says."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from mlops.models import ApiKey, User
from ocr import services
from ocr.models import Correction, PageResult, PageReview
from tests.factories import PageResultFactory, StaffFactory, UserFactory

pytestmark = pytest.mark.django_db

BASE = "/api/v1/ocr/reviews"


class Api:
    """JSON in and out, with the key of a user."""

    def __init__(self, user: User) -> None:
        _key, token = ApiKey.objects.create(user=user)
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        call = getattr(self.client, method)
        sent = {} if body is None else {"data": body, "content_type": "application/json"}
        return call(f"{BASE}{path}", headers=headers, **sent)


@pytest.fixture
def owner() -> User:
    return UserFactory(username="owner")


@pytest.fixture
def result(owner: User) -> PageResult:
    return PageResultFactory(job__document__owner=owner)


@pytest.fixture
def mine(owner: User) -> Api:
    return Api(owner)


@pytest.fixture
def annotators() -> Api:
    return Api(StaffFactory(username="minji", role="annotator"))


# -- reading --------------------------------------------------------------------------------------


def test_a_page_with_its_lines(mine: Api, result: PageResult) -> None:
    page = mine("get", f"/{result.pk}").json()
    assert (page["status"], page["version"], page["width"]) == ("open", 0, 240)
    assert page["document"] == {
        "id": str(result.job.document_id),
        "name": result.job.document.name,
    }
    assert [line["id"] for line in page["lines"]] == ["1", "2"]
    assert page["lines"][1] == {**result.lines[1], "id": "2", "rev": 0, "by": ""}
    # Looking at a page makes no row.
    assert not PageReview.objects.exists()


def test_a_poll_costs_nothing_until_something_changes(
    mine: Api, annotators: Api, result: PageResult
) -> None:
    first = mine("get", f"/{result.pk}?since=0")
    assert first.json()["lines"] == [] and first.json()["order"] == ["1", "2"]
    etag = {"if-none-match": first["ETag"]}
    assert mine("get", f"/{result.pk}?since=0", **etag).status_code == 304
    annotators("patch", f"/{result.pk}/lines/2", {"version": 0, "text": "pencil, silver"})
    later = mine("get", f"/{result.pk}?since=0", **etag)
    assert later.status_code == 200
    assert [(one["id"], one["by"]) for one in later.json()["lines"]] == [("2", "minji")]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "", None),
        ("get", "/corrections", None),
        ("post", "/open", {}),
        ("post", "/accept", {"version": 0}),
        ("patch", "/lines/1", {"version": 0, "text": "other"}),
        ("delete", "/lines/1?version=0", None),
    ],
)
def test_other_peoples_pages_are_not_there(
    result: PageResult, method: str, path: str, body: Any
) -> None:
    stranger = Api(UserFactory())
    assert stranger(method, f"/{result.pk}{path}", body).status_code == 404
    assert Client().get(f"{BASE}/{result.pk}").status_code == 401
    assert not PageReview.objects.exists()


# -- changes --------------------------------------------------------------------------------------


def test_each_change_answers_with_what_changed(mine: Api, result: PageResult) -> None:
    at = f"/{result.pk}"
    box = [[10, 95], [90, 95], [90, 115], [10, 115]]
    edited = mine("patch", f"{at}/lines/1", {"version": 0, "text": "Shelf mark K-1307"}).json()
    assert [line["text"] for line in edited["lines"]] == ["Shelf mark K-1307"]
    assert (edited["version"], edited["order"]) == (1, ["1", "2"])
    moved = mine("patch", f"{at}/lines/2", {"version": 1, "polygon": box}).json()
    assert [line["polygon"] for line in moved["lines"]] == [box]
    added = mine("post", f"{at}/lines", {"since": 2, "text": "new", "polygon": box, "after": "1"})
    assert added.json()["order"] == ["1", "n3", "2"]
    split = mine("post", f"{at}/split", {"version": 3, "line": "1", "at": 5}).json()
    assert split["order"] == ["1", "n4", "n3", "2"]
    merged = mine("post", f"{at}/merge", {"version": 4, "lines": ["1", "n4"]}).json()
    assert merged["lines"][0]["text"] == "Shelf mark K-1307"
    order = mine("post", f"{at}/order", {"version": 5, "order": ["2", "1", "n3"]}).json()
    assert (order["order"], order["lines"]) == (["2", "1", "n3"], [])
    removed = mine("delete", f"{at}/lines/n3?version=6").json()
    assert removed["order"] == ["2", "1"]
    undone = mine("post", f"{at}/undo", {"since": 7}).json()
    assert undone["order"] == ["2", "1", "n3"]
    assert [line["id"] for line in undone["lines"]] == ["n3"]

    rows = mine("get", f"{at}/corrections").json()["results"]
    assert [row["action"] for row in rows] == [
        *("edit", "box", "add", "split", "merge", "order", "remove", "add"),
    ]
    assert rows[0] | {"id": 0, "created_at": ""} == {
        "id": 0,
        "created_at": "",
        "action": "edit",
        "line_id": "1",
        "position": 0,
        "user": "owner",
        "version": 1,
        "before": "Shelf mark K-1037",
        "after": "Shelf mark K-1307",
        "before_box": result.lines[0]["polygon"],
        "box": result.lines[0]["polygon"],
        "lines_before": [{**result.lines[0], "id": "1", "rev": 0, "by": ""}],
        "lines_after": [
            {**result.lines[0], "id": "1", "rev": 1, "by": "owner", "text": "Shelf mark K-1307"}
        ],
        "undoes": None,
    }
    assert rows[-1]["undoes"] == rows[-2]["id"]
    assert (
        mine("patch", f"{at}/lines/1", {"version": 8, "text": "Shelf mark K-1307"}).json()[
            "correction"
        ]
        is None
    )


def test_a_conflict_brings_the_page_as_it_is(
    mine: Api, annotators: Api, result: PageResult
) -> None:
    annotators("patch", f"/{result.pk}/lines/2", {"version": 0, "text": "theirs"})
    answer = mine("patch", f"/{result.pk}/lines/2", {"version": 0, "text": "mine"})
    assert answer.status_code == 409
    body = answer.json()
    assert body["error"]["code"] == "line_changed" and "minji" in body["error"]["message"]
    assert (body["line"], body["review"]["version"]) == ("2", 1)
    assert body["review"]["lines"][1]["text"] == "theirs"
    # What is refused leaves no trace.
    assert Correction.objects.count() == 1
    again = mine("patch", f"/{result.pk}/lines/2", {"version": 1, "text": "mine"})
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/lines/1", {"version": 0}, None),
        ("/lines/1", {"version": 0, "text": "x", "polygon": []}, None),
        ("/lines/1", {"text": "x"}, "version"),
        ("/lines/1", {"version": 0, "text": " "}, "text"),
        ("/lines/1", {"version": 0, "polygon": [[1, 2, 3]] * 4}, "polygon"),
        ("/lines/1", {"version": 0, "polygon": [[1, 2]] * 4}, "polygon"),
    ],
)
def test_what_makes_no_sense_is_refused(
    mine: Api, result: PageResult, path: str, body: Any, param: str | None
) -> None:
    answer = mine("patch", f"/{result.pk}{path}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_accept_flag_reopen(mine: Api, annotators: Api, result: PageResult) -> None:
    at = f"/{result.pk}"
    flagged = annotators("post", f"{at}/flag", {"note": "smudged"}).json()
    assert (flagged["status"], flagged["note"], flagged["reviewer"]) == (
        *("flagged", "smudged", "minji"),
    )
    assert mine("post", f"{at}/accept", {"version": 0}).status_code == 409
    accepted = mine("post", f"{at}/accept", {"version": 1}).json()
    assert (accepted["status"], accepted["reviewer"]) == ("accepted", "owner")
    refused = mine("patch", f"{at}/lines/1", {"version": 2, "text": "other"})
    assert refused.json()["error"]["code"] == "accepted"
    assert refused.json()["review"]["status"] == "accepted"
    assert mine("post", f"{at}/reopen").json()["status"] == "open"


# -- the queue ------------------------------------------------------------------------------------


def test_queue_and_next(mine: Api, annotators: Api, result: PageResult) -> None:
    worse = PageResultFactory(mean_confidence=0.1)
    listed = annotators("get", "").json()
    assert [row["id"] for row in listed["results"]] == [worse.pk, result.pk]
    assert listed["results"][0]["url"].endswith(f"{BASE}/{worse.pk}")
    assert [row["id"] for row in mine("get", "").json()["results"]] == [result.pk]

    got = annotators("post", "/next", {}).json()["review"]
    assert (got["id"], got["claimed_by"]) == (worse.pk, "minji")
    got = annotators("post", "/next", {"skip": [worse.pk], "order": "random", "seed": "a"}).json()
    assert got["review"]["id"] == result.pk
    assert mine("post", "/next", {}).json() == {"review": None}
    assert annotators("post", f"/{result.pk}/release").status_code == 204
    assert mine("post", "/next", {}).json()["review"]["claimed_by"] == "owner"
    assert annotators("post", f"/{result.pk}/open").json()["claimed_by"] == "owner"
    annotators("post", f"/{worse.pk}/flag", {})
    flagged = annotators("get", "?status=flagged").json()["results"]
    assert [(row["id"], row["status"]) for row in flagged] == [(worse.pk, "flagged")]
    assert mine("get", "?order=worst").json()["error"]["param"] == "order"


def test_a_page_that_was_not_read_is_no_review(annotators: Api) -> None:
    failed = PageResultFactory(error="The page is damaged.", lines=[])
    assert annotators("get", f"/{failed.pk}").status_code == 404
    assert annotators("post", f"/{failed.pk}/open").status_code == 404


def test_services_and_api_agree_on_the_state(mine: Api, owner: User, result: PageResult) -> None:
    review = services.review_begin(result=result)
    services.line_remove(review=review, user=owner, version=0, line_id="1")
    page = mine("get", f"/{result.pk}").json()
    assert (page["text"], len(page["lines"])) == ("pencil silver", 1)
