"""Which model makes vectors, and how texts are handed to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from django.conf import settings

from llm.engines.base import LoadedModel
from llm.models import LanguageModel

# Texts in one call of the model.
BATCH = 32
# Of the model's own context, for special tokens and for counts that are off by a few.
SPARE = 8


def embedding_model() -> LanguageModel | None:
    """The one that LLM_EMBEDDING_MODEL names, else the first that there is; None where none is."""
    models = LanguageModel.objects.callable().filter(task=LanguageModel.Task.EMBED)
    if settings.LLM_EMBEDDING_MODEL:
        return models.filter(name=settings.LLM_EMBEDDING_MODEL).first()
    return models.order_by("pk").first()


def why_no_model() -> str:
    """What to say where `embedding_model` is None."""
    if settings.LLM_EMBEDDING_MODEL:
        return (
            f"The embedding model '{settings.LLM_EMBEDDING_MODEL}' (LLM_EMBEDDING_MODEL) is not "
            "installed or not enabled, so words are searched for, not meanings."
        )
    return (
        "No embedding model is installed, so words are searched for, not meanings. Add a language "
        "model with the task 'embeddings'."
    )


def collection_version(model: LanguageModel) -> str:
    """Names the model and what its vectors depend on; those of another are never compared."""
    made_by = "\n".join(
        (model.engine, model.source, settings.LLM_PASSAGE_PREFIX, repr(model.options))
    )
    version = hashlib.sha256(made_by.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', model.name)[:120]}-{version}-"


def collection_name(model: LanguageModel, dimension: int) -> str:
    return f"{collection_version(model)}{dimension}"


def embedded(loaded: LoadedModel, texts: Sequence[str]) -> list[Sequence[float]]:
    """One vector a text, of unit length; what doesn't fit into the model's context is cut off."""
    return list(loaded.embed([_fitting(loaded, text) for text in texts]).vectors)


def _fitting(loaded: LoadedModel, text: str) -> str:
    room = loaded.context_length - SPARE
    while room > 0 and (count := loaded.count(text)) > room:
        text = text[: int(len(text) * room / count)]
    return text
