"""Reads of the LLM app: which model a name means, and what may be called."""

from __future__ import annotations

import random

from django.db.models import Exists, OuterRef, QuerySet

from llm.models import AliasTarget, LanguageModel, ModelAlias
from mlops.exceptions import ApplicationError


def model_resolve(name: str) -> LanguageModel:
    """The model that a request's `model` means, with its base; an alias chooses by weight.

    Raises ApplicationError (404, model_not_found) for a name that can't be called.
    """
    model = LanguageModel.objects.callable().select_related("base").filter(name=name).first()
    if model is not None:
        return model
    targets = list(_targets().filter(alias__name=name).select_related("model__base").order_by("pk"))
    if not targets:
        raise _unknown(name)
    weights = [target.weight for target in targets]
    return random.choices(targets, weights)[0].model


def name_find(name: str) -> LanguageModel | ModelAlias:
    """What has this name and can be called. Raises ApplicationError (404, model_not_found)."""
    models = LanguageModel.objects.callable().select_related("base")
    found = models.filter(name=name).first() or aliases_callable().filter(name=name).first()
    if found is None:
        raise _unknown(name)
    return found


def aliases_callable() -> QuerySet[ModelAlias]:
    """Aliases that have a target to go to."""
    return ModelAlias.objects.filter(Exists(_targets().filter(alias=OuterRef("pk"))))


def _targets() -> QuerySet[AliasTarget]:
    return AliasTarget.objects.filter(weight__gt=0, model__in=LanguageModel.objects.callable())


def _unknown(name: str) -> ApplicationError:
    return ApplicationError(
        f"The model '{name}' does not exist or may not be called. GET /v1/models lists those "
        "that may.",
        code="model_not_found",
        param="model",
        status=404,
    )
