"""How far documents are indexed, and what can answer from them, as people are told."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from llm.models import DocumentIndex, LanguageModel
from llm.retrieval.embedding import collection_version, embedding_model, why_no_model
from llm.selectors import aliases_callable
from ocr.models import Document


def index_state(documents: QuerySet[Document]) -> dict[str, Any]:
    """Counts over these documents; `model` is what makes vectors, `note` why there is none."""
    model = embedding_model()
    indexes = DocumentIndex.objects.filter(document__in=documents)
    vectors = 0
    if model is not None:
        made = indexes.filter(collection__startswith=collection_version(model), note="")
        vectors = made.count()
    return {
        "documents": documents.count(),
        "indexed": indexes.exclude(indexed_at=None).count(),
        "with_vectors": vectors,
        "waiting": indexes.exclude(wanted_at=None, claimed_until=None).count(),
        "model": model.name if model else None,
        "note": None if model else why_no_model(),
    }


def writers() -> list[str]:
    """Names of what can write an answer, aliases first."""
    writes = LanguageModel.Task.GENERATE
    models = LanguageModel.objects.callable().filter(
        Q(base=None, task=writes) | Q(base__task=writes)
    )
    aliases = [alias.name for alias in aliases_callable()]
    return aliases + list(models.order_by("name").values_list("name", flat=True))
