"""The console's playground: one conversation with a model, through the API that clients use."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from llm.models import LanguageModel, ModelInstance
from llm.selectors import aliases_callable

PERMISSION = "llm.add_generationjob"


@require_safe
def playground_view(request: HttpRequest) -> HttpResponse:
    """`?model=` chooses one. The page asks `/v1/chat/completions` with the session."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    groups = model_groups()
    context = {
        **admin.site.each_context(request),
        "title": "Playground",
        "groups": groups,
        "chosen": request.GET.get("model", ""),
        "chat_url": reverse("llm-chat"),
        "models_url": reverse("admin:llm_languagemodel_changelist"),
        "may_add": request.user.has_perm("llm.add_languagemodel"),
    }
    return render(request, "llm/playground.html", context)


def model_groups() -> list[dict[str, Any]]:
    """What may be asked, by kind; each says whether the first answer waits for loading."""
    ready = set(
        ModelInstance.objects.filter(state=ModelInstance.State.READY).values_list(
            "model", flat=True
        )
    )
    models = LanguageModel.objects.callable().select_related("base").order_by("name")
    writing = [model for model in models if model.root.task == LanguageModel.Task.GENERATE]
    found = {
        "Models": [_row(model, ready) for model in writing if model.base_id is None],
        "Adapters": [_row(model, ready) for model in writing if model.base_id is not None],
        "Aliases": [{"name": alias.name, "note": ""} for alias in aliases_callable()],
    }
    return [{"label": label, "models": rows} for label, rows in found.items() if rows]


def _row(model: LanguageModel, ready: set[int]) -> dict[str, str]:
    loaded = model.root.pk in ready
    return {"name": model.name, "note": "" if loaded else "not loaded: the first answer waits"}
