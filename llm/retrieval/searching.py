"""A search from the asking to the hits: how it is to be answered, and both rankings as one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.db.models import Q, QuerySet
from django.urls import reverse

from llm.models import Chunk, DocumentIndex, LanguageModel
from llm.retrieval.embedding import collection_version, embedding_model, why_no_model
from llm.retrieval.fusion import fused
from llm.retrieval.lexical import lexical_search
from llm.retrieval.marking import marks
from llm.retrieval.terms import terms
from mlops import selectors
from mlops.exceptions import ApplicationError
from mlops.models import User
from ocr.models import Document

Mode = Literal["auto", "lexical", "vector", "hybrid"]
# As deep as each ranking goes at least before they are made one.
DEPTH = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search is answered: `mode` by what, `note` why not as asked.

    `model` is None where no worker is needed. `documents`: their ids, None for all that the user
    sees.
    """

    user: User
    query: str
    asked: Mode
    mode: Mode
    limit: int
    documents: Sequence[uuid.UUID] | None = None
    model: LanguageModel | None = None
    note: str = ""

    @property
    def depth(self) -> int:
        return max(DEPTH, self.limit)

    @property
    def searched(self) -> QuerySet[Document]:
        """Of what the user may see; nothing else is looked at."""
        visible = Document.objects.visible_to(self.user)
        return visible if self.documents is None else visible.filter(pk__in=self.documents)

    @property
    def chunks(self) -> QuerySet[Chunk]:
        return Chunk.objects.filter(document__in=self.searched.order_by())


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` is BM25, a cosine, or of the fusion, as `mode` says."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, by what (`mode`), and what there is to say of it."""

    mode: Mode
    hits: list[Hit] = field(default_factory=list)
    note: str = ""


def plan_search(
    *,
    user: User,
    query: str,
    mode: Mode = "auto",
    limit: int = 10,
    documents: Sequence[uuid.UUID] | None = None,
) -> Plan:
    """Decides how the search can be answered. Raises ApplicationError for another's documents."""
    if not terms(query):
        raise ApplicationError(
            "The query holds no letter or digit to look for.", code="empty_query", param="query"
        )
    if documents is not None:
        documents = _visible(user, documents)
    asked = Plan(user, query, mode, mode, limit, documents)
    if mode == "lexical":
        return asked
    model = embedding_model()
    note = why_no_model() if model is None else _why_not_by_meaning(asked, model)
    if model is None or note:
        return Plan(user, query, mode, "lexical", limit, documents, None, note)
    by = "vector" if mode == "vector" else "hybrid"
    return Plan(user, query, mode, by, limit, documents, model, _left_out(asked, model))


def find_hits(
    plan: Plan, nearest: Sequence[tuple[str, float]] | None = None, *, failure: str = ""
) -> Found:
    """The hits; `nearest` is what a worker found by meaning, None with `failure` if it could not.

    Without it words are searched for.
    """
    if plan.mode == "lexical" or nearest is None:
        ranked = lexical_search(plan.searched, plan.query, limit=plan.limit)
        chunks = _chunks(plan, [pk for pk, _score in ranked])
        hits = [Hit(chunks[pk], score) for pk, score in ranked if pk in chunks]
        return Found("lexical", hits, failure or plan.note)
    by_meaning = _by_meaning(plan, nearest)
    if plan.mode == "vector":
        hits = [Hit(chunk, score) for chunk, score in by_meaning[: plan.limit]]
        return Found("vector", hits, plan.note)
    by_words = lexical_search(plan.searched, plan.query, limit=plan.depth)
    both = fused([pk for pk, _ in by_words], [chunk.pk for chunk, _ in by_meaning])[: plan.limit]
    chunks = _chunks(plan, [pk for pk, _score in both])
    hits = [Hit(chunks[pk], score) for pk, score in both if pk in chunks]
    return Found("hybrid", hits, plan.note)


def found_json(plan: Plan, found: Found) -> dict[str, Any]:
    """The answer of the API: `mode` is by what was found, `note` why not as asked."""
    return {
        "query": plan.query,
        "asked": plan.asked,
        "mode": found.mode,
        "note": found.note or None,
        "hits": [hit_json(hit, plan.query) for hit in found.hits],
    }


def hit_json(hit: Hit, query: str) -> dict[str, Any]:
    """A passage and its place. `marks` are [start, end) of the words asked for, in code points.

    Boxes are [left, top, right, bottom] in pixels of the page of `width` and `height`, which is
    turned by `rotation` degrees; `image` draws it so.
    """
    chunk = hit.chunk
    result, page = chunk.result, chunk.page.number
    image = reverse("document-page-image", args=[chunk.document_id, page])
    return {
        "score": round(hit.score, 6),
        "document": {"id": str(chunk.document_id), "name": chunk.document.name},
        "job": str(result.job_id),
        "page": page,
        "heading": chunk.heading or None,
        "text": chunk.text,
        "marks": marks(chunk.text, query),
        "first_line": chunk.first_line,
        "last_line": chunk.last_line,
        "box": chunk.box,
        "lines": chunk.lines,
        "width": result.width,
        "height": result.height,
        "rotation": result.rotation,
        "image": f"{image}?rotation={result.rotation}",
    }


def _visible(user: User, documents: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    found = set(
        Document.objects.visible_to(user).filter(pk__in=documents).values_list("pk", flat=True)
    )
    missing = [str(one) for one in documents if one not in found]
    if missing:
        raise ApplicationError(
            f"There is no document {missing[0]}, or it isn't yours.",
            code="not_found",
            status=404,
            param="documents",
        )
    return list(dict.fromkeys(documents))


def _indexed(plan: Plan) -> QuerySet[DocumentIndex]:
    documents = plan.searched.order_by()
    return DocumentIndex.objects.filter(document__in=documents, chunks__gt=0)


def _with_vectors(model: LanguageModel, prefix: str = "") -> Q:
    return Q(**{f"{prefix}collection__startswith": collection_version(model), f"{prefix}note": ""})


def _why_not_by_meaning(plan: Plan, model: LanguageModel) -> str:
    if not _indexed(plan).filter(_with_vectors(model)).exists():
        return (
            f"No document has vectors of the embedding model '{model}' yet, so words are searched "
            "for. Index them: POST /api/v1/llm/index/."
        )
    if not selectors.queues_seen([model.queue]):
        return (
            f"No worker of the queue '{model.queue}', which holds the embedding model, has been "
            "seen lately, so words are searched for."
        )
    return ""


def _left_out(plan: Plan, model: LanguageModel) -> str:
    without = _indexed(plan).exclude(_with_vectors(model)).count()
    if not without:
        return ""
    documents = "1 document has" if without == 1 else f"{without} documents have"
    return f"{documents} no vectors yet: there only words are searched for."


def _by_meaning(plan: Plan, nearest: Sequence[tuple[str, float]]) -> list[tuple[Chunk, float]]:
    """The rows of the points, left out those whose text has changed since, or is gone."""
    assert plan.model is not None
    current = _with_vectors(plan.model, "document__search_index__")
    rows = _along(plan.chunks.filter(current, point__in=[point for point, _score in nearest]))
    by_point = {str(chunk.point): chunk for chunk in rows}
    # At a right angle, or beyond, they have nothing to do with each other.
    return [(by_point[one], score) for one, score in nearest if one in by_point and score > 0]


def _chunks(plan: Plan, keys: Sequence[int]) -> dict[int, Chunk]:
    return _along(plan.chunks).in_bulk(keys)


def _along(chunks: QuerySet[Chunk]) -> QuerySet[Chunk]:
    heavy = ("result__lines", "result__blocks", "result__text", "terms")
    return chunks.select_related("document", "page", "result").defer(*heavy)
