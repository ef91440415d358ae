"""What correcting does to lines: pure functions on the dicts that PageReview keeps."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mlops.exceptions import ApplicationError

LONGEST = 10_000
MOST_POINTS = 32
# Pixels; a smaller box is a slip of the mouse, and no engine could learn from it.
LEAST_AREA = 9.0

LineDict = dict[str, Any]
Points = list[list[float]]


def numbered(lines: Sequence[LineDict]) -> list[LineDict]:
    """An engine's lines as a review begins with them."""
    return [{**line, "id": str(n), "rev": 0, "by": ""} for n, line in enumerate(lines, 1)]


def clean_text(text: str) -> str:
    """One line in composed form, without control characters or white space around it.

    Raises ApplicationError for an empty one.
    """
    # Keyboards of macOS and some files give Hangul and accents decomposed.
    composed = unicodedata.normalize("NFC", text)
    kept = (" " if unicodedata.category(one) in ("Cc", "Zl", "Zp") else one for one in composed)
    cleaned = "".join(kept).strip()
    if not cleaned:
        raise ApplicationError(
            "The line would be empty. Remove it instead.", code="empty_text", param="text"
        )
    if len(cleaned) > LONGEST:
        raise ApplicationError(
            f"The text has {len(cleaned)} characters; a line has at most {LONGEST}.",
            code="too_long",
            param="text",
        )
    return cleaned


def clean_polygon(points: Sequence[Sequence[float]], width: int, height: int) -> Points:
    """The points in pixels, kept on the page. Raises ApplicationError for what is no box."""
    if not 4 <= len(points) <= MOST_POINTS or any(len(point) != 2 for point in points):
        raise _bad_box(f"a polygon has 4 to {MOST_POINTS} points of x and y")
    if not all(math.isfinite(value) for point in points for value in point):
        raise _bad_box("its coordinates must be numbers")
    kept = [[_within(x, width), _within(y, height)] for x, y in points]
    # Shoelace; positive where y points down and the points go clockwise.
    area = sum(x * v - u * y for (x, y), (u, v) in pairwise([*kept, kept[0]])) / 2
    if abs(area) < LEAST_AREA:
        raise _bad_box(f"it covers less than {LEAST_AREA:g} pixels of the page")
    if area < 0:
        raise _bad_box("its points must go clockwise from the top left")
    return kept


def edited(line: LineDict, text: str) -> LineDict:
    """The line with another text; the words' places are kept as long as their number is."""
    changed = {**line, "text": text}
    if len(changed.get("spans", ())) != len(text.split()):
        changed.pop("spans", None)
    return changed


def boxed(line: LineDict, polygon: Points) -> LineDict:
    changed = {**line, "polygon": polygon}
    changed.pop("spans", None)
    return changed


def split(line: LineDict, at: int, new_id: str) -> tuple[LineDict, LineDict]:
    """The line cut before its character `at`: the first part keeps the id.

    The box is cut where the engine saw the gap between the words, or in the proportion of the
    characters' usual widths. Raises ApplicationError if one of the parts would be empty.
    """
    text = line["text"]
    first, second = text[:at].rstrip(), text[at:].lstrip()
    if at < 1 or not first or not second:
        raise ApplicationError(
            "Put the cursor between two characters of the line to split it there.",
            code="empty_part",
            param="at",
        )
    share = _share(line, text[:at])
    left, right = _cut(line["polygon"], share)
    plain = {key: value for key, value in line.items() if key != "spans"}
    return (
        {**plain, "text": first, "polygon": left},
        {**plain, "id": new_id, "text": second, "polygon": right},
    )


def merged(lines: Sequence[LineDict]) -> LineDict:
    """The lines as one, which keeps the id of the first and the least confidence."""
    plain = {key: value for key, value in lines[0].items() if key != "spans"}
    return {
        **plain,
        "text": " ".join(line["text"] for line in lines),
        "confidence": min(line["confidence"] for line in lines),
        "polygon": _hull([line["polygon"] for line in lines]),
    }


def same_content(one: LineDict, other: LineDict) -> bool:
    """Whether two states of a line say the same of the page, whoever brought them about."""
    return (one["text"], one["polygon"]) == (other["text"], other["polygon"])


def _share(line: LineDict, before: str) -> float:
    """How far along the line the cut lies, from 0 to 1."""
    spans, words = line.get("spans") or (), len(before.split())
    whole_words = before[-1:].isspace() or line["text"][len(before)].isspace()
    if whole_words and 0 < words < len(spans):
        return (spans[words - 1][1] + spans[words][0]) / 2
    return _set_width(before) / _set_width(line["text"])


def _set_width(text: str) -> float:
    """How wide the text is set, roughly: East Asian wide characters count double."""
    return sum(2.0 if unicodedata.east_asian_width(one) in "WF" else 1.0 for one in text)


def _cut(polygon: Points, share: float) -> tuple[Points, Points]:
    """A polygon cut across its direction of reading. One of more than four points is boxed."""
    left_top, right_top, right_low, left_low = polygon if len(polygon) == 4 else _box([polygon])
    top, low = _between(left_top, right_top, share), _between(left_low, right_low, share)
    return [left_top, top, low, left_low], [top, right_top, right_low, low]


def _between(one: Sequence[float], other: Sequence[float], share: float) -> list[float]:
    return [round(a + (b - a) * share, 1) for a, b in zip(one, other, strict=True)]


def _hull(polygons: Sequence[Points]) -> Points:
    """From the left end of the leftmost to the right end of the rightmost if they stand in a row,
    so that a slanted row keeps its slant; else the box around all of them."""
    in_row = all(len(polygon) == 4 for polygon in polygons) and all(
        # The second begins where the first ends, give or take a height.
        right[0][0] > left[0][0] and abs(right[0][1] - left[1][1]) < (left[3][1] - left[0][1]) / 2
        for left, right in pairwise(polygons)
    )
    if not in_row:
        return _box(polygons)
    first, last = polygons[0], polygons[-1]
    return [first[0], last[1], last[2], first[3]]


def _box(polygons: Sequence[Points]) -> Points:
    xs, ys = zip(*(point for polygon in polygons for point in polygon), strict=True)
    left, top, right, low = min(xs), min(ys), max(xs), max(ys)
    return [[left, top], [right, top], [right, low], [left, low]]


def _within(value: float, most: int) -> float:
    return round(min(max(float(value), 0.0), float(most)), 1)


def _bad_box(why: str) -> ApplicationError:
    return ApplicationError(f"This is no box: {why}.", code="bad_polygon", param="polygon")
