"""`/v1/models`: what may be called, as OpenAI lists it; adapters as vLLM does."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.openai_view import OpenAIView, seconds
from llm.models import LanguageModel, ModelAlias
from llm.selectors import aliases_callable, name_find

OWNER = "self-hosted"


def model_object(model: LanguageModel | ModelAlias) -> dict[str, Any]:
    """An adapter's `parent` is its base; a base and an alias are their own `root`."""
    base = model.base if isinstance(model, LanguageModel) else None
    length = model.root.context_length if isinstance(model, LanguageModel) else 0
    return {
        "id": model.name,
        "object": "model",
        "created": seconds(model.created_at),
        "owned_by": OWNER,
        "root": model.name,
        "parent": base.name if base is not None else None,
        "max_model_len": length or None,
    }


class ModelsView(OpenAIView):
    @extend_schema(operation_id="models_list", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Models, adapters and aliases by name."""
        models = LanguageModel.objects.callable().select_related("base")
        rows = sorted([*models, *aliases_callable()], key=lambda row: row.name)
        return Response({"object": "list", "data": [model_object(row) for row in rows]})


class ModelView(OpenAIView):
    @extend_schema(operation_id="models_retrieve", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, name: str) -> Response:
        return Response(model_object(name_find(name)))
