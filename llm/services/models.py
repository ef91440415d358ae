"""Writes of language models and of the names that route to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError
from django.db.models.functions import Now

from llm.models import AliasTarget, LanguageModel, ModelAlias
from mlops.exceptions import ApplicationError, NotAllowed

log = structlog.get_logger(__name__)


def model_save(*, model: LanguageModel, **fields: Any) -> LanguageModel:
    """Writes a new or changed model. Raises ApplicationError naming the field at fault.

    Workers that hold it load it anew with the next request, if what it is made of has changed.
    """
    for name, value in fields.items():
        setattr(model, name, value)
    if model.engine not in settings.ENGINES["llm"]:
        raise ApplicationError(
            f"There is no engine '{model.engine}'. Choose one of: "
            f"{', '.join(sorted(settings.ENGINES['llm']))}.",
            code="unknown_engine",
            param="engine",
        )
    if model.queue not in settings.QUEUES:
        raise ApplicationError(
            f"No worker is told of the queue '{model.queue}'. Choose one of: "
            f"{', '.join(settings.QUEUES)}, or add it to QUEUES.",
            code="unknown_queue",
            param="queue",
        )
    _validate(model)
    model.save()
    log.info("model_saved", model=model.name)
    return model


def model_delete(*, model: LanguageModel) -> None:
    """Raises NotAllowed while adapters stand on it; they would have no base."""
    try:
        model.delete()
    except ProtectedError as error:
        names = ", ".join(sorted(str(row) for row in error.protected_objects)[:5])
        raise NotAllowed(f"Adapters stand on this model: {names}. Delete them first.") from error
    log.info("model_deleted", model=model.name)


def model_warm(*, model: LanguageModel) -> None:
    """Workers load the base of this model within a round of maintenance, and keep it."""
    _set(model.root, warm=True, unload_asked_at=None)


def model_unload(*, model: LanguageModel) -> None:
    """Workers give its memory back once no request is under way; the next request loads it."""
    _set(model.root, warm=False, unload_asked_at=Now())


def alias_save(
    *, alias: ModelAlias, name: str, targets: Sequence[tuple[LanguageModel, int]]
) -> ModelAlias:
    """Writes an alias with its targets and their weights. Raises ApplicationError."""
    alias.name = name
    if not any(weight for _model, weight in targets):
        raise ApplicationError(
            "An alias needs a target with a weight above 0.", code="no_target", param="targets"
        )
    if len({model.pk for model, _weight in targets}) < len(targets):
        raise ApplicationError(
            "A model is named twice. Give it one weight.", code="target_twice", param="targets"
        )
    _validate(alias)
    with transaction.atomic():
        alias.save()
        alias.targets.all().delete()
        AliasTarget.objects.bulk_create(
            AliasTarget(alias=alias, model=model, weight=weight) for model, weight in targets
        )
    log.info("alias_saved", alias=name, targets=[model.name for model, _weight in targets])
    return alias


def _set(model: LanguageModel, **fields: Any) -> None:
    LanguageModel.objects.filter(pk=model.pk).update(**fields)
    log.info("model_asked_for", model=model.name, warm=fields["warm"])


def _validate(row: LanguageModel | ModelAlias) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        name, messages = next(iter(error.message_dict.items()))
        param = None if name == "__all__" else name
        raise ApplicationError(str(messages[0]), code="invalid", param=param) from error
