"""Writes of corrections. Each is one change of a page, kept as one row, in one transaction.

`version` is the review's version that the author saw. A change is refused (ReviewConflict) where
somebody changed the same line after it; changes of other lines don't matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import User
from ocr import listeners, review_lines
from ocr.models import Correction, PageReview
from ocr.review_blocks import blocks_after, review_text
from ocr.review_lines import LineDict, Points
from ocr.services.review import CLAIM, ReviewConflict, refuse_accepted, review_locked

Action = Correction.Action
# What a change is called when it is taken back.
INVERSE = {
    Action.ADD: Action.REMOVE,
    Action.REMOVE: Action.ADD,
    Action.MERGE: Action.SPLIT,
    Action.SPLIT: Action.MERGE,
}


@transaction.atomic
def line_edit(
    *, review: PageReview, user: User, version: int, line_id: str, text: str
) -> Correction | None:
    """Another text for a line; None if it already reads so."""
    now = _open(review)
    text = review_lines.clean_text(text)
    line = _seen(now, line_id, version)
    if line["text"] == text:
        return None
    return _replace(now, user, Action.EDIT, [line], [review_lines.edited(line, text)])


@transaction.atomic
def box_change(
    *,
    review: PageReview,
    user: User,
    version: int,
    line_id: str,
    polygon: Sequence[Sequence[float]],
) -> Correction | None:
    """Another box for a line, clockwise from the text's top left; None if nothing changes."""
    now = _open(review)
    line = _seen(now, line_id, version)
    box = _polygon(now, polygon)
    if line["polygon"] == box:
        return None
    return _replace(now, user, Action.BOX, [line], [review_lines.boxed(line, box)])


@transaction.atomic
def line_add(
    *,
    review: PageReview,
    user: User,
    text: str,
    polygon: Sequence[Sequence[float]],
    after: str | None = None,
) -> Correction:
    """A line that the engine missed, read after the line `after`; None puts it first.

    If `after` is gone meanwhile, it comes last.
    """
    now = _open(review)
    line: LineDict = {
        "text": review_lines.clean_text(text),
        "confidence": 1.0,
        "polygon": _polygon(now, polygon),
        "id": _new_id(now),
    }
    ids = _ids(now)
    position = 0 if after is None else ids.index(after) + 1 if after in ids else len(ids)
    return _replace(now, user, Action.ADD, [], [line], position=position)


@transaction.atomic
def line_remove(*, review: PageReview, user: User, version: int, line_id: str) -> Correction:
    now = _open(review)
    return _replace(now, user, Action.REMOVE, [_seen(now, line_id, version)], [])


@transaction.atomic
def line_merge(
    *, review: PageReview, user: User, version: int, line_ids: Sequence[str]
) -> Correction:
    """Lines that follow one another become one, with the id of the first."""
    now = _open(review)
    lines = [_seen(now, line_id, version) for line_id in line_ids]
    ids = _ids(now)
    first = ids.index(lines[0]["id"]) if lines else 0
    if len(lines) < 2 or ids[first : first + len(lines)] != list(line_ids):
        raise ApplicationError(
            "Give two or more lines that follow one another in the reading order.",
            code="not_adjacent",
            param="lines",
        )
    return _replace(now, user, Action.MERGE, lines, [review_lines.merged(lines)])


@transaction.atomic
def line_split(
    *, review: PageReview, user: User, version: int, line_id: str, at: int
) -> Correction:
    """The line becomes two, cut before its character `at`; the second gets a new id."""
    now = _open(review)
    line = _seen(now, line_id, version)
    return _replace(
        now, user, Action.SPLIT, [line], list(review_lines.split(line, at, _new_id(now)))
    )


@transaction.atomic
def lines_reorder(
    *, review: PageReview, user: User, version: int, order: Sequence[str]
) -> Correction | None:
    """All lines in another reading order; None if it is the same."""
    now = _open(review)
    if now.order_version > version or sorted(order) != sorted(_ids(now)):
        raise ReviewConflict(
            f"{now.reviewer or 'Somebody'} has changed which lines there are, or their order.",
            review=now,
            code="order_changed",
        )
    return None if list(order) == _ids(now) else _reorder(now, user, order)


@transaction.atomic
def correction_undo(*, review: PageReview, user: User) -> Correction:
    """Takes the user's last change back that still stands, by a new correction.

    Raises NotAllowed if there is none, ReviewConflict if somebody changed the same lines since.
    """
    now = _open(review)
    mine = now.corrections.filter(user=user, undoes=None, undone_by=None)
    last = mine.order_by("-version").first()
    if last is None:
        raise NotAllowed("There is nothing of yours to undo.", code="nothing_to_undo")
    if last.action == Action.ORDER:
        order = [line["id"] for line in last.lines_before]
        if [line["id"] for line in last.lines_after] != _ids(now):
            raise _changed_since(now)
        return _reorder(now, user, order, undoes=last)
    standing = [now.line(line["id"]) for line in last.lines_after]
    lines: list[LineDict] = []
    for line, left in zip(standing, last.lines_after, strict=True):
        if line is None or not review_lines.same_content(line, left):
            raise _changed_since(now, left["id"])
        lines.append(line)
    action = INVERSE.get(last.action, last.action)
    return _replace(
        now, user, action, lines, last.lines_before, position=last.position, undoes=last
    )


# -- parts of every change ------------------------------------------------------------------------


def _open(review: PageReview) -> PageReview:
    now = review_locked(review)
    refuse_accepted(now)
    return now


def _ids(review: PageReview) -> list[str]:
    return [line["id"] for line in review.lines]


def _new_id(review: PageReview) -> str:
    """A version makes at most one line, so that its number names it."""
    return f"n{review.version + 1}"


def _polygon(review: PageReview, polygon: Sequence[Sequence[float]]) -> Points:
    return review_lines.clean_polygon(polygon, review.result.width, review.result.height)


def _seen(review: PageReview, line_id: str, version: int) -> LineDict:
    """The line, if nobody changed it after `version`."""
    line = review.line(line_id)
    if line is None:
        raise _changed_since(review, line_id, "This line is gone")
    if line["rev"] > version:
        raise _changed_since(review, line_id, f"{line['by'] or 'Somebody'} has changed this line")
    return line


def _changed_since(
    review: PageReview, line_id: str = "", what: str = "Somebody has changed this"
) -> ReviewConflict:
    return ReviewConflict(
        f"{what} meanwhile. Look at what it is now, and change that if it is still wrong.",
        review=review,
        line_id=line_id,
    )


def _replace(
    review: PageReview,
    user: User,
    action: str,
    before: Sequence[LineDict],
    after: Sequence[LineDict],
    *,
    position: int = 0,
    undoes: Correction | None = None,
) -> Correction:
    """`after` takes the place of `before`, at `position` where there was nothing before."""
    old = _ids(review)
    gone = {line["id"] for line in before}
    if before:
        position = old.index(before[0]["id"])
    version = review.version + 1
    # What an undo restores was written by whoever wrote it then.
    fresh = [
        {**line, "rev": version, "by": line["by"] if undoes else user.username} for line in after
    ]
    kept = [line for line in review.lines if line["id"] not in gone]
    review.lines = [*kept[:position], *fresh, *kept[position:]]
    if _ids(review) != old:
        review.order_version = version
    correction = Correction(
        action=action,
        line_id=(before or after)[0]["id"],
        position=position,
        before="\n".join(line["text"] for line in before),
        after="\n".join(line["text"] for line in fresh),
        before_box=before[0]["polygon"] if before else None,
        box=fresh[0]["polygon"] if fresh else None,
        lines_before=list(before),
        lines_after=fresh,
    )
    return _write(review, user, correction, old, undoes)


def _reorder(
    review: PageReview, user: User, order: Sequence[str], undoes: Correction | None = None
) -> Correction:
    old = _ids(review)
    by_id = {line["id"]: line for line in review.lines}
    review.lines = [by_id[one] for one in order]
    review.order_version = review.version + 1
    correction = Correction(
        action=Action.ORDER,
        lines_before=[{"id": one} for one in old],
        lines_after=[{"id": one} for one in order],
    )
    return _write(review, user, correction, old, undoes)


def _write(
    review: PageReview,
    user: User,
    correction: Correction,
    old: list[str],
    undoes: Correction | None,
) -> Correction:
    review.version += 1
    if old != _ids(review):
        correction.page_before = {"order": old, "blocks": review.blocks}
    earlier = undoes.page_before if undoes else {}
    if earlier.get("order") == _ids(review):
        # The very lines that there were: each goes back into the block where it was.
        review.blocks = blocks_after(earlier["blocks"], earlier["order"], review.lines)
    else:
        review.blocks = blocks_after(review.blocks, old, review.lines)
    review.text = review_text(review.lines, review.blocks)
    review.reviewer = user
    if review.claimed_by_id in (None, user.pk):
        review.claimed_by, review.claimed_until = user, timezone.now() + CLAIM
    review.save()
    correction.review, correction.user = review, user
    correction.version, correction.undoes = review.version, undoes
    correction.save(force_insert=True)
    listeners.text_changed(review.result.page.document_id)
    return correction
