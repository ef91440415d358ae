"""Which of a page's readings is searched: what people made of it, else the newest."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

from django.db.models import F

from llm.retrieval import chunking
from ocr.models import PageResult, PageReview
from ocr.results import Content, content


@dataclass(frozen=True, slots=True)
class Reading:
    """A page's result, and what it says by now."""

    result: PageResult
    content: Content


def reading_digest(document: uuid.UUID) -> str:
    """Names the text that is searched: the same as long as nothing of it has changed."""
    chosen = sorted(_chosen(document).items())
    named = "\n".join(f"{page} {pk} {version}" for page, (pk, version) in chosen)
    return hashlib.sha256(f"{chunking.VERSION}\n{named}".encode()).hexdigest()


def readings(document: uuid.UUID) -> list[Reading]:
    """One for each page that was read, in the order of the pages."""
    keys = [pk for pk, _version in _chosen(document).values()]
    results = PageResult.objects.filter(pk__in=keys).select_related("page", "review")
    return [
        Reading(result, content(result, corrected=True))
        for result in results.order_by("page__number")
    ]


def _chosen(document: uuid.UUID) -> dict[int, tuple[int, int]]:
    """Of each page (its key) the result, and the version of its review, -1 where there is none.

    An accepted text goes first, then one that people have corrected, then the newest reading.
    """
    rows = (
        PageResult.objects.filter(page__document=document, error="")
        .order_by("created_at", "pk")
        .annotate(status=F("review__status"), version=F("review__version"))
        .values_list("page_id", "pk", "status", "version")
    )
    best: dict[int, tuple[int, int, int]] = {}
    for page, pk, status, version in rows:
        rank = 2 if status == PageReview.Status.ACCEPTED else 1 if version else 0
        if page not in best or rank >= best[page][0]:
            best[page] = (rank, pk, -1 if version is None else version)
    return {page: (pk, version) for page, (_rank, pk, version) in best.items()}
