"""Search by words: candidates from the database's index, ranked here by BM25.

The database says which passages hold which terms, and nothing else, so that PostgreSQL and SQLite
rank alike (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from django.db import connection
from django.db.models import QuerySet, Sum

from llm.models import Chunk, DocumentIndex
from llm.retrieval.terms import asked_terms
from ocr.models import Document

# The longest of a longer query say enough.
MOST_TERMS = 24
# A term in more passages than this finds none on its own.
COMMON = 2000
# Passages that are looked at closely.
CANDIDATES = 200
# What a passage must hold of the query's weight, as a share of what the best one holds.
LEAST_COVERED = 0.25

_K1, _B = 1.2, 0.75

# Of the passages in some documents those that hold some terms. SQLite is told where to begin: it
# would go through all passages of all documents for each of the term's.
_HOLDING = {
    "postgresql": "SELECT id FROM llm_chunk WHERE lexemes @@ %s::tsquery "
    "AND document_id IN ({documents}) LIMIT %s",
    "sqlite": "SELECT chunk.id FROM llm_chunk_terms CROSS JOIN llm_chunk AS chunk "
    "ON chunk.id = llm_chunk_terms.rowid WHERE llm_chunk_terms MATCH %s "
    "AND chunk.document_id IN ({documents}) LIMIT %s",
}
_ALL_OF = {"postgresql": " & ", "sqlite": " AND "}
_QUOTED = {"postgresql": "'{}'", "sqlite": '"{}"'}


def lexical_search(
    documents: QuerySet[Document], query: str, *, limit: int
) -> list[tuple[int, float]]:
    """(key, score) of the best passages, best first.

    `documents` are those that the asker may see: only in these is anything looked at or counted.
    """
    wanted = sorted(asked_terms(query), key=len, reverse=True)[:MOST_TERMS]
    total = _passages_of(documents) if wanted else 0
    if not total:
        return []
    holders = {one: _holding(documents, [one], COMMON + 1) for one in wanted}
    weights = {
        # How many more hold a common term is not counted: half of all is near enough.
        one: _weight(len(found) if len(found) <= COMMON else max(COMMON, total // 2), total)
        for one, found in holders.items()
    }
    keys = _candidates(documents, holders, weights)
    if not keys:
        return []
    rows = Chunk.objects.filter(pk__in=keys).values_list("pk", "terms", "term_count")
    return _ranked(list(rows), weights)[:limit]


def _candidates(
    documents: QuerySet[Document],
    holders: Mapping[str, Sequence[int]],
    weights: Mapping[str, float],
) -> list[int]:
    """Keys of the passages that hold the most of the query's weight."""
    scores: dict[int, float] = defaultdict(float)
    telling = {one: found for one, found in holders.items() if 0 < len(found) <= COMMON}
    for one, found in telling.items():
        for key in found:
            scores[key] += weights[one]
    if not telling:
        common = [one for one, found in holders.items() if found]
        found = _holding(documents, common, COMMON) if common else []
        scores = dict.fromkeys(found or (common and holders[common[0]]) or [], 1.0)
    return sorted(scores, key=lambda key: (-scores[key], key))[:CANDIDATES]


def _holding(documents: QuerySet[Document], every: Sequence[str], most: int) -> list[int]:
    """Keys of passages that hold every one of the terms, `most` of them at most.

    Terms are letters and digits alone, so that nothing of them is the database's language.
    """
    vendor = connection.vendor
    visible, parameters = documents.order_by().values("pk").query.sql_with_params()
    match = _ALL_OF[vendor].join(_QUOTED[vendor].format(one) for one in every)
    with connection.cursor() as cursor:
        sql = _HOLDING[vendor].format(documents=visible)
        cursor.execute(sql, [match, *parameters, most])
        return [key for (key,) in cursor.fetchall()]


def _passages_of(documents: QuerySet[Document]) -> int:
    indexes = DocumentIndex.objects.filter(document__in=documents.order_by())
    return indexes.aggregate(total=Sum("chunks"))["total"] or 0


def _weight(holding: int, total: int) -> float:
    """Inverse document frequency."""
    return math.log(1 + (max(total, holding) - holding + 0.5) / (holding + 0.5))


def _ranked(
    rows: Sequence[tuple[int, str, int]], weights: Mapping[str, float]
) -> list[tuple[int, float]]:
    counted = [(pk, Counter(text.split()), length) for pk, text, length in rows]
    covered = {
        pk: sum(weight for one, weight in weights.items() if counts[one])
        for pk, counts, _length in counted
    }
    least = LEAST_COVERED * max(covered.values())
    usual = sum(length for _pk, _counts, length in counted) / len(counted)
    scored = [
        (pk, _bm25(counts, length / usual, weights))
        for pk, counts, length in counted
        if covered[pk] >= least
    ]
    return sorted(scored, key=lambda one: (-one[1], one[0]))


def _bm25(counts: Counter[str], length: float, weights: Mapping[str, float]) -> float:
    """`length` is the passage's against the usual one's."""
    damped = _K1 * (1 - _B + _B * length)
    return sum(
        weight * counts[one] * (_K1 + 1) / (counts[one] + damped)
        for one, weight in weights.items()
        if counts[one]
    )
