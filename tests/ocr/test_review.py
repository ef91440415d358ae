"""Corrections of a page: what each does to lines, blocks and text, and who may do it when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import User
from ocr import services
from ocr.models import Correction, PageResult, PageReview
from ocr.review_blocks import review_text
from tests.factories import PageResultFactory, StaffFactory

pytestmark = pytest.mark.django_db

TEXTS = ("Ledger of the mill", "12 sacks of rye", "3 sacks of oats", "paid in full")


def box(top: int, left: int = 10, right: int = 210) -> list[list[float]]:
    return [[left, top], [right, top], [right, top + 20], [left, top + 20]]


def make_result(**given: Any) -> PageResult:
    lines = [
        {"text": text, "confidence": 0.9, "polygon": box(10 + 30 * n)}
        for n, text in enumerate(TEXTS)
    ]
    blocks = [
        {"kind": "heading", "level": 1, "lines": [0, 1], "box": [10, 10, 210, 30], "rows": []},
        {"kind": "text", "level": 0, "lines": [1, 4], "box": [10, 40, 210, 120], "rows": []},
    ]
    given = {"lines": lines, "blocks": blocks, "width": 240, "height": 160} | given
    return PageResultFactory(text=review_text(given["lines"], given["blocks"]), **given)


@pytest.fixture
def minji() -> User:
    return StaffFactory(username="minji", role="annotator")


@pytest.fixture
def jun() -> User:
    return StaffFactory(username="jun", role="annotator")


@pytest.fixture
def review(minji: User) -> PageReview:
    return services.review_open(result=make_result(), user=minji)


def texts(review: PageReview) -> list[str]:
    return [line["text"] for line in PageReview.objects.get(pk=review.pk).lines]


def rows_of_text(review: PageReview) -> list[str]:
    """Without the empty lines between blocks."""
    return [row for row in PageReview.objects.get(pk=review.pk).text.splitlines() if row]


def spans_of_blocks(review: PageReview) -> list[tuple[str, list[int]]]:
    blocks = PageReview.objects.get(pk=review.pk).blocks
    return [(block["kind"], block["lines"]) for block in blocks]


# -- one change at a time -------------------------------------------------------------------------


def test_a_review_begins_with_what_the_engine_read(review: PageReview, minji: User) -> None:
    assert [(line["id"], line["rev"], line["by"]) for line in review.lines] == [
        ("1", 0, ""),
        ("2", 0, ""),
        ("3", 0, ""),
        ("4", 0, ""),
    ]
    assert review.text == review.result.text and review.blocks == review.result.blocks
    assert (review.status, review.version, review.claimed_by) == ("open", 0, minji)
    again = services.review_open(result=review.result, user=minji)
    assert again.pk == review.pk


def test_edit_writes_text_and_correction(review: PageReview, minji: User) -> None:
    done = services.line_edit(
        review=review, user=minji, version=0, line_id="2", text=" 13 sacks\nof rye "
    )
    now = PageReview.objects.get()
    assert now.line("2")["text"] == "13 sacks of rye"
    assert (now.line("2")["rev"], now.line("2")["by"]) == (1, "minji")
    assert rows_of_text(review) == [TEXTS[0], "13 sacks of rye", *TEXTS[2:]]
    assert (now.version, now.order_version, now.reviewer) == (1, 0, minji)
    kept = Correction.objects.get(pk=done.pk)
    assert (kept.action, kept.line_id, kept.user, kept.version) == ("edit", "2", minji, 1)
    assert (kept.before, kept.after) == ("12 sacks of rye", "13 sacks of rye")
    assert kept.before_box == kept.box == box(40)
    assert kept.position == 1
    # The engine's own reading stays what it was.
    assert PageResult.objects.get().lines[1]["text"] == "12 sacks of rye"


def test_an_edit_that_changes_nothing_is_no_correction(review: PageReview, minji: User) -> None:
    same = services.line_edit(review=review, user=minji, version=0, line_id="1", text=TEXTS[0])
    assert same is None and not Correction.objects.exists()
    assert PageReview.objects.get().version == 0


def test_hangul_is_kept_composed(review: PageReview, minji: User) -> None:
    services.line_edit(review=review, user=minji, version=0, line_id="1", text="한국")
    assert texts(review)[0] == "한국"


@pytest.mark.parametrize("text", ["", " \t", "x" * 10_001])
def test_text_that_is_no_line_is_refused(review: PageReview, minji: User, text: str) -> None:
    with pytest.raises(ApplicationError) as refused:
        services.line_edit(review=review, user=minji, version=0, line_id="1", text=text)
    assert refused.value.param == "text"


def test_words_keep_their_places_while_their_number_stays(minji: User) -> None:
    line = {"text": "one tow", "confidence": 0.5, "polygon": box(10), "spans": [[0, 0.4], [0.5, 1]]}
    review = services.review_open(result=make_result(lines=[line], blocks=[]), user=minji)
    services.line_edit(review=review, user=minji, version=0, line_id="1", text="one two")
    assert PageReview.objects.get().line("1")["spans"] == line["spans"]
    services.line_edit(review=review, user=minji, version=1, line_id="1", text="onetwo")
    assert "spans" not in PageReview.objects.get().line("1")


def test_add_goes_behind_the_line_named_and_into_its_block(review: PageReview, minji: User) -> None:
    done = services.line_add(
        review=review, user=minji, text="1 sack of salt", polygon=box(85), after="3"
    )
    assert texts(review) == [*TEXTS[:3], "1 sack of salt", TEXTS[3]]
    assert spans_of_blocks(review) == [("heading", [0, 1]), ("text", [1, 5])]
    added = PageReview.objects.get().lines[3]
    assert (added["id"], added["confidence"], added["by"]) == (done.line_id, 1.0, "minji")
    assert (done.action, done.before, done.before_box) == ("add", "", None)
    assert PageReview.objects.get().order_version == 1


@pytest.mark.parametrize(("after", "place"), [(None, 0), ("gone", 4)])
def test_add_first_or_last(review: PageReview, minji: User, after: str | None, place: int) -> None:
    services.line_add(review=review, user=minji, text="new", polygon=box(85), after=after)
    assert texts(review)[place] == "new"


def test_remove(review: PageReview, minji: User) -> None:
    done = services.line_remove(review=review, user=minji, version=0, line_id="1")
    assert texts(review) == list(TEXTS[1:])
    assert spans_of_blocks(review) == [("text", [0, 3])]
    assert (done.action, done.before, done.after, done.box) == ("remove", TEXTS[0], "", None)


def test_merge_of_lines_in_a_row_keeps_the_slant(minji: User) -> None:
    left = [[10, 10], [80, 14], [80, 34], [10, 30]]
    right = [[90, 15], [200, 20], [200, 40], [90, 35]]
    lines = [
        {"text": "Total", "confidence": 0.9, "polygon": left},
        {"text": "12.50", "confidence": 0.4, "polygon": right},
    ]
    review = services.review_open(result=make_result(lines=lines, blocks=[]), user=minji)
    done = services.line_merge(review=review, user=minji, version=0, line_ids=["1", "2"])
    now = PageReview.objects.get().lines
    assert [(line["id"], line["text"], line["confidence"]) for line in now] == [
        ("1", "Total 12.50", 0.4)
    ]
    assert now[0]["polygon"] == [[10, 10], [200, 20], [200, 40], [10, 30]]
    assert done.before == "Total\n12.50" and done.after == "Total 12.50"
    assert [line["id"] for line in done.lines_before] == ["1", "2"]


def test_merge_of_lines_under_one_another_is_the_box_around(
    review: PageReview, minji: User
) -> None:
    services.line_merge(review=review, user=minji, version=0, line_ids=["2", "3"])
    assert PageReview.objects.get().line("2")["polygon"] == [
        [10, 40],
        [210, 40],
        [210, 90],
        [10, 90],
    ]
    assert spans_of_blocks(review) == [("heading", [0, 1]), ("text", [1, 3])]


@pytest.mark.parametrize("ids", [["1", "3"], ["2", "1"], ["1"]])
def test_only_neighbours_merge(review: PageReview, minji: User, ids: list[str]) -> None:
    with pytest.raises(ApplicationError, match="follow one another"):
        services.line_merge(review=review, user=minji, version=0, line_ids=ids)


def test_split_cuts_text_and_box(review: PageReview, minji: User) -> None:
    done = services.line_split(review=review, user=minji, version=0, line_id="2", at=8)
    now = PageReview.objects.get()
    first, second = now.lines[1:3]
    assert (first["id"], first["text"], second["text"]) == ("2", "12 sacks", "of rye")
    cut = first["polygon"][1][0]
    # 8 of 15 characters of 200 pixels.
    assert cut == pytest.approx(10 + 200 * 8 / 15, abs=0.1)
    assert second["polygon"][0][0] == cut and second["polygon"][1][0] == 210
    assert rows_of_text(review)[1] == "12 sacks of rye"
    assert (done.before, done.after) == ("12 sacks of rye", "12 sacks\nof rye")


def test_split_between_words_uses_the_gap_that_the_engine_saw(minji: User) -> None:
    line = {"text": "a bc", "confidence": 0.5, "polygon": box(10), "spans": [[0, 0.6], [0.7, 1]]}
    review = services.review_open(result=make_result(lines=[line], blocks=[]), user=minji)
    services.line_split(review=review, user=minji, version=0, line_id="1", at=1)
    assert PageReview.objects.get().line("1")["polygon"][1][0] == 10 + 200 * 0.65


def test_split_counts_hangul_as_wide(minji: User) -> None:
    line = {"text": "가나 abcd", "confidence": 0.5, "polygon": box(10)}
    review = services.review_open(result=make_result(lines=[line], blocks=[]), user=minji)
    services.line_split(review=review, user=minji, version=0, line_id="1", at=2)
    assert PageReview.objects.get().line("1")["polygon"][1][0] == pytest.approx(
        10 + 200 * 4 / 9, abs=0.1
    )


@pytest.mark.parametrize("at", [0, 15, 99])
def test_split_leaves_no_part_empty(review: PageReview, minji: User, at: int) -> None:
    with pytest.raises(ApplicationError, match="between two characters"):
        services.line_split(review=review, user=minji, version=0, line_id="2", at=at)


def test_box_is_kept_on_the_page(review: PageReview, minji: User) -> None:
    done = services.box_change(
        review=review,
        user=minji,
        version=0,
        line_id="2",
        polygon=[[-5, 41], [500, 41], [500, 61.25], [-5, 61.25]],
    )
    assert PageReview.objects.get().line("2")["polygon"] == [
        [0, 41],
        [240, 41],
        [240, 61.2],
        [0, 61.2],
    ]
    assert (done.action, done.before_box, done.before, done.after) == (
        *("box", box(40)),
        *(TEXTS[1], TEXTS[1]),
    )
    block = PageReview.objects.get().blocks[1]
    assert block["box"] == [0, 41, 240, 120]


@pytest.mark.parametrize(
    "polygon",
    [
        [[1, 1], [5, 1], [5, 2]],
        [[1, 1], [2, 1], [2, 2], [1, 2]],
        [[10, 10], [10, 40], [90, 40], [90, 10]],
        [[10, 10], [float("nan"), 10], [90, 40], [10, 40]],
        [[300, 300], [400, 300], [400, 400], [300, 400]],
    ],
    ids=["three points", "tiny", "anticlockwise", "not a number", "off the page"],
)
def test_what_is_no_box(review: PageReview, minji: User, polygon: list[list[float]]) -> None:
    with pytest.raises(ApplicationError, match="no box"):
        services.box_change(review=review, user=minji, version=0, line_id="2", polygon=polygon)


def test_reorder_moves_a_line_out_of_its_block(review: PageReview, minji: User) -> None:
    done = services.lines_reorder(review=review, user=minji, version=0, order=["2", "1", "3", "4"])
    assert texts(review) == [TEXTS[1], TEXTS[0], *TEXTS[2:]]
    # The heading stands where it now is; the line before it, which left its block, joins it.
    assert spans_of_blocks(review) == [("heading", [0, 2]), ("text", [2, 4])]
    assert [line["id"] for line in done.lines_after] == ["2", "1", "3", "4"]
    assert PageReview.objects.get().line("1")["rev"] == 0


def test_table_cells_follow_their_lines(minji: User) -> None:
    lines = [
        {
            "text": text,
            "confidence": 0.9,
            "polygon": box(10 + 30 * (n // 2), 10 + 100 * (n % 2), 90),
        }
        for n, text in enumerate(["Rye", "12", "Oats", "3"])
    ]
    for n, line in enumerate(lines):
        line["polygon"] = box(10 + 30 * (n // 2), 10 + 100 * (n % 2), 100 + 100 * (n % 2))
    table = {
        "kind": "table",
        "level": 0,
        "lines": [0, 4],
        "box": [10, 10, 200, 60],
        "rows": [[[0], [1]], [[2], [3]]],
    }
    review = services.review_open(result=make_result(lines=lines, blocks=[table]), user=minji)
    services.line_remove(review=review, user=minji, version=0, line_id="2")
    assert PageReview.objects.get().blocks[0]["rows"] == [[[0], []], [[1], [2]]]
    services.line_add(review=review, user=minji, text="new", polygon=box(70), after="3")
    assert PageReview.objects.get().blocks[0]["rows"] == [[[0], []], [[1, 2], [3]]]
    for version, line in ((2, "3"), (3, "4"), (4, "n2")):
        services.line_remove(review=review, user=minji, version=version, line_id=line)
    assert PageReview.objects.get().blocks[0]["rows"] == [[[0], []]]


def test_a_page_may_end_without_lines(review: PageReview, minji: User) -> None:
    for n in range(4):
        services.line_remove(review=review, user=minji, version=n, line_id=str(n + 1))
    now = PageReview.objects.get()
    assert (now.lines, now.blocks, now.text) == ([], [], "")


# -- undo -----------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[PageReview, User], Any]] = {
    "edit": lambda review, user: services.line_edit(
        review=review, user=user, version=0, line_id="2", text="other"
    ),
    "box": lambda review, user: services.box_change(
        review=review, user=user, version=0, line_id="2", polygon=box(42)
    ),
    "add": lambda review, user: services.line_add(
        review=review, user=user, text="new", polygon=box(42), after="2"
    ),
    "remove": lambda review, user: services.line_remove(
        review=review, user=user, version=0, line_id="2"
    ),
    "merge": lambda review, user: services.line_merge(
        review=review, user=user, version=0, line_ids=["2", "3"]
    ),
    "split": lambda review, user: services.line_split(
        review=review, user=user, version=0, line_id="2", at=3
    ),
    "order": lambda review, user: services.lines_reorder(
        review=review, user=user, version=0, order=["1", "3", "2", "4"]
    ),
}
UNDONE_BY = {"add": "remove", "remove": "add", "merge": "split", "split": "merge"}


@pytest.mark.parametrize("action", CHANGES)
def test_undo_is_a_correction_that_restores_the_page(
    review: PageReview, minji: User, action: str
) -> None:
    before = PageReview.objects.get()
    done = CHANGES[action](review, minji)
    assert done.action == action
    changed = PageReview.objects.get()
    assert changed.lines != before.lines

    undone = services.correction_undo(review=review, user=minji)
    now = PageReview.objects.get()
    plain = [{**line, "rev": 0} for line in now.lines]
    assert plain == before.lines
    assert (now.text, now.blocks, now.version) == (before.text, before.blocks, 2)
    assert undone.undoes == done and undone.action == UNDONE_BY.get(action, action)
    assert Correction.objects.count() == 2
    with pytest.raises(NotAllowed, match="nothing of yours"):
        services.correction_undo(review=review, user=minji)


def test_undo_goes_back_step_by_step(review: PageReview, minji: User) -> None:
    for version, text in enumerate(["one", "two", "three"]):
        services.line_edit(review=review, user=minji, version=version, line_id="1", text=text)
    seen = []
    for _ in range(3):
        services.correction_undo(review=review, user=minji)
        seen.append(texts(review)[0])
    assert seen == ["two", "one", TEXTS[0]]


def test_undo_takes_back_ones_own_change_alone(review: PageReview, minji: User, jun: User) -> None:
    services.line_edit(review=review, user=minji, version=0, line_id="1", text="mine")
    services.line_edit(review=review, user=jun, version=0, line_id="2", text="his")
    services.correction_undo(review=review, user=minji)
    assert texts(review)[:2] == [TEXTS[0], "his"]
    services.line_edit(review=review, user=minji, version=3, line_id="2", text="mine again")
    with pytest.raises(services.ReviewConflict):
        services.correction_undo(review=review, user=jun)
    assert texts(review)[1] == "mine again"


# -- two people -----------------------------------------------------------------------------------


def test_changes_of_different_lines_both_go_through(
    review: PageReview, minji: User, jun: User
) -> None:
    services.line_edit(review=review, user=minji, version=0, line_id="1", text="mine")
    services.line_edit(review=review, user=jun, version=0, line_id="2", text="his")
    assert texts(review)[:2] == ["mine", "his"]
    assert [c.user.username for c in Correction.objects.all()] == ["minji", "jun"]


@pytest.mark.parametrize("action", ["edit", "box", "remove", "merge", "split"])
def test_a_line_changed_meanwhile_is_not_overwritten(
    review: PageReview, minji: User, jun: User, action: str
) -> None:
    services.line_edit(review=review, user=jun, version=0, line_id="2", text="his text")
    with pytest.raises(services.ReviewConflict, match="jun has changed this line") as refused:
        CHANGES[action](review, minji)
    assert refused.value.line_id == "2" and refused.value.review.line("2")["text"] == "his text"
    assert texts(review) == [TEXTS[0], "his text", *TEXTS[2:]]
    assert Correction.objects.count() == 1


def test_a_line_that_is_gone_is_a_conflict(review: PageReview, minji: User, jun: User) -> None:
    services.line_remove(review=review, user=jun, version=0, line_id="2")
    with pytest.raises(services.ReviewConflict, match="gone"):
        CHANGES["edit"](review, minji)


def test_an_order_seen_before_a_line_came_is_a_conflict(
    review: PageReview, minji: User, jun: User
) -> None:
    CHANGES["edit"](review, jun)
    CHANGES["add"](review, jun)
    with pytest.raises(services.ReviewConflict) as refused:
        CHANGES["order"](review, minji)
    assert refused.value.code == "order_changed"


@pytest.mark.django_db(transaction=True)
def test_twenty_changes_at_once_are_all_kept(minji: User, jun: User) -> None:
    """Each from a thread of its own, and of lines that nobody else changes."""
    lines = [{"text": f"line {n}", "confidence": 0.9, "polygon": box(n)} for n in range(20)]
    review = services.review_open(result=make_result(lines=lines, blocks=[]), user=minji)
    faults: list[Exception] = []

    def edit(n: int) -> None:
        user = (minji, jun)[n % 2]
        try:
            services.line_edit(
                review=review, user=user, version=0, line_id=str(n + 1), text=f"text {n}"
            )
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=edit, args=[n]) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert texts(review) == [f"text {n}" for n in range(20)]
    versions = Correction.objects.order_by("version").values_list("version", flat=True)
    assert list(versions) == list(range(1, 21))


@pytest.mark.django_db(transaction=True)
def test_of_ten_at_the_same_line_one_wins(minji: User) -> None:
    review = services.review_open(result=make_result(), user=minji)
    won: list[str] = []
    lost: list[str] = []

    def edit(text: str) -> None:
        try:
            services.line_edit(review=review, user=minji, version=0, line_id="1", text=text)
            won.append(text)
        except services.ReviewConflict:
            lost.append(text)
        finally:
            connection.close()

    threads = [threading.Thread(target=edit, args=[f"text {n}"]) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 9
    assert texts(review)[0] == won[0]


# -- what becomes of a page -----------------------------------------------------------------------


def test_accept_vouches_for_what_was_seen(review: PageReview, minji: User, jun: User) -> None:
    CHANGES["edit"](review, jun)
    with pytest.raises(services.ReviewConflict, match="jun has changed the page"):
        services.review_accept(review=review, user=minji, version=0)
    services.review_accept(review=review, user=minji, version=1)
    now = PageReview.objects.get()
    assert (now.status, now.reviewer, now.claimed_by) == ("accepted", minji, None)
    assert now.accepted_at and list(PageReview.objects.accepted()) == [now]


@pytest.mark.parametrize("action", CHANGES)
def test_an_accepted_page_is_reopened_before_it_is_changed(
    review: PageReview, minji: User, action: str
) -> None:
    services.review_accept(review=review, user=minji, version=0)
    with pytest.raises(services.ReviewConflict, match="accepted by minji") as refused:
        CHANGES[action](review, minji)
    assert refused.value.code == "accepted"
    services.review_reopen(review=review, user=minji)
    now = PageReview.objects.get()
    assert (now.status, now.accepted_at) == ("open", None)
    CHANGES[action](now, minji)


def test_flagged_pages_can_be_mended_and_accepted(
    review: PageReview, minji: User, jun: User
) -> None:
    services.review_flag(review=review, user=minji, note=" a torn page ")
    now = PageReview.objects.get()
    assert (now.status, now.note, now.claimed_by) == ("flagged", "a torn page", None)
    CHANGES["edit"](review, jun)
    services.review_accept(review=review, user=jun, version=2)
    assert PageReview.objects.get().status == "accepted"
    with pytest.raises(services.ReviewConflict):
        services.review_flag(review=review, user=minji)


def test_a_page_that_was_not_read_has_nothing_to_review(minji: User) -> None:
    failed = make_result(error="The page is damaged.", lines=[], blocks=[])
    with pytest.raises(NotAllowed, match="could not be read"):
        services.review_open(result=failed, user=minji)
    assert not PageReview.objects.exists()


def test_corrections_outlive_the_user(review: PageReview, minji: User, jun: User) -> None:
    CHANGES["edit"](review, jun)
    jun.delete()
    assert Correction.objects.get().user is None
    assert PageReview.objects.get().line("2")["by"] == "jun"
