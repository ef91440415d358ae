"""Datasets out of the platform's own rows: what people have corrected is what models learn from.

A maker turns rows of the database into records. Accepted extractions are
`finetune.product_extractions`'.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any

from PIL import Image

from finetune.reading import BadLine, Record
from mlops.exceptions import ApplicationError, JobFailed
from ocr.models import Correction, Document, PageReview
from ocr.pages import BadPage, PageImage, open_pages
from ocr.runner import limits, local_copy

ACCEPTED = "accepted"
# Reviews fetched at a time: each holds a page's lines.
BATCH = 200


def reviews_of(ids: Sequence[int] | str) -> list[int]:
    """Accepted reviews, those of a document together; `ids` may be "accepted", which is all."""
    reviews = PageReview.objects.accepted()
    if ids != ACCEPTED:
        reviews = reviews.filter(pk__in=ids)
    order = ("result__page__document_id", "result__page__number", "pk")
    return list(reviews.order_by(*order).values_list("pk", flat=True))


class ReviewSource:
    """Records made from accepted pages; rows of a document are of one group."""

    def __init__(self, *, make: str, reviews: Sequence[int] | str) -> None:
        if make not in MAKERS:
            raise ApplicationError(
                f"There is nothing called '{make}' to make of pages; choose one of: "
                f"{', '.join(MAKERS)}.",
                code="unknown_choice",
                param="make",
            )
        self.container, self.notes = "reviewed pages", []
        self._make = MAKERS[make]
        self._ids = reviews_of(reviews)
        if reviews != ACCEPTED and len(self._ids) < len(reviews):
            left = len(reviews) - len(self._ids)
            self.notes.append(f"{left} of {len(reviews)} pages are not accepted and were left out.")
        self._done = 0

    def progress(self) -> tuple[int, int]:
        return self._done, len(self._ids)

    def records(self) -> Iterator[Record]:
        number = 0
        for review, values in self._values():
            # What was uploaded twice is one page to learn from.
            group = review.result.page.document.sha256
            for value in values:
                number += 1
                yield Record(number, value, "", group)
            self._done += 1

    def _values(self) -> Iterator[tuple[PageReview, Iterator[dict[str, Any] | BadLine]]]:
        for start in range(0, len(self._ids), BATCH):
            found = PageReview.objects.select_related(
                "result__job", "result__page__document"
            ).in_bulk(self._ids[start : start + BATCH])
            reviews = [found[pk] for pk in self._ids[start : start + BATCH] if pk in found]
            for review in reviews:
                yield review, self._make(review, review.result.page.document)


def line_rows(review: PageReview, document: Document) -> Iterator[dict[str, Any] | BadLine]:
    """The picture of each line, cut from the page, with its accepted text."""
    try:
        page = drawn(review, document)
    except (BadPage, JobFailed, ApplicationError) as error:
        yield BadLine("bad_image", f"{review.result.page} can't be drawn: {error}", "")
        return
    corrections = corrections_of(review)
    read = {str(n): line["text"] for n, line in enumerate(review.result.lines, 1)}
    for line in review.lines:
        target = BytesIO()
        cut(page.image, line["polygon"]).save(target, "PNG")
        meta = lineage(review) | {"line": line["id"], "corrections": corrections[line["id"]]}
        if line["id"] in read:
            meta["read"] = read[line["id"]]
        yield {"image": target.getvalue(), "text": line["text"], "meta": meta}


def page_rows(review: PageReview, _document: Document) -> Iterator[dict[str, Any] | BadLine]:
    """What the engine read on the page, and what people made of it."""
    if not review.result.text.strip() or not review.text.strip():
        return
    made = sorted(pk for pks in corrections_of(review).values() for pk in pks)
    meta = lineage(review) | {"corrections": made}
    yield {"prompt": review.result.text, "completion": review.text, "meta": meta}


MAKERS: dict[str, Callable[[PageReview, Document], Iterator[dict[str, Any] | BadLine]]] = {
    "ocr": line_rows,
    "correction": page_rows,
}


def lineage(review: PageReview) -> dict[str, Any]:
    """Which rows of the platform a row comes from."""
    result = review.result
    return {
        "document": str(result.page.document_id),
        "page": result.page.number,
        "job": str(result.job_id),
        "result": result.pk,
        "review": review.pk,
        "review_version": review.version,
    }


def corrections_of(review: PageReview) -> dict[str, list[int]]:
    """Ids of the corrections of each line that still stand."""
    found: dict[str, list[int]] = defaultdict(list)
    rows = Correction.objects.filter(review=review, undoes=None, undone_by=None)
    for pk, line_id in rows.values_list("pk", "line_id"):
        found[line_id].append(pk)
    return found


def drawn(review: PageReview, document: Document) -> PageImage:
    """The page as it was read: its pixels are those of the polygons."""
    result = review.result
    with (
        local_copy(document) as path,
        open_pages(path, dpi=result.dpi or result.job.dpi, limits=limits()) as source,
    ):
        return source.render(result.page.number - 1).turned(result.rotation)


def cut(image: Image.Image, polygon: Sequence[Sequence[float]]) -> Image.Image:
    """The line within the polygon, put straight: as high as its sides and as wide as its edges.

    A polygon of more than four points is cut out by the box around it.
    """
    if len(polygon) != 4:
        xs, ys = zip(*polygon, strict=True)
        left, top, right, low = min(xs), min(ys), max(xs), max(ys)
        polygon = [(left, top), (right, top), (right, low), (left, low)]
    left_top, right_top, right_low, left_low = polygon
    width = max(math.dist(left_top, right_top), math.dist(left_low, right_low))
    height = max(math.dist(left_top, left_low), math.dist(right_top, right_low))
    size = max(1, round(width)), max(1, round(height))
    # Pillow goes round the other way: down the left side first.
    corners = [value for point in (left_top, left_low, right_low, right_top) for value in point]
    return image.transform(size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC)
