"""Writes of the engines that training has made."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from mlops.exceptions import ApplicationError
from ocr.languages import LANGUAGES
from ocr.models import TrainedEngine


def trained_engine_save(
    *,
    name: str,
    number: int,
    source: str,
    languages: Sequence[str],
    characters: str = "",
    cer: float | None = None,
) -> TrainedEngine:
    """Makes a version of a recogniser callable; the first of its name is the current one.

    `languages`: ISO codes. Doing it again changes nothing. Raises ApplicationError.
    """
    if unknown := [code for code in languages if code not in LANGUAGES]:
        raise ApplicationError(
            f"There is no language '{unknown[0]}': give ISO codes such as en or ko.",
            code="unknown_language",
            param="languages",
        )
    with transaction.atomic():
        engine, made = TrainedEngine.objects.get_or_create(
            name=name,
            number=number,
            defaults={
                "source": source,
                "languages": list(languages),
                "characters": characters,
                "cer": cer,
            },
        )
        if made and not TrainedEngine.objects.filter(name=name, current=True).exists():
            trained_engine_choose(engine=engine)
    return engine


def trained_engine_choose(*, engine: TrainedEngine) -> None:
    """From now on the name without a number means this version."""
    with transaction.atomic():
        TrainedEngine.objects.filter(name=engine.name, current=True).update(current=False)
        TrainedEngine.objects.filter(pk=engine.pk).update(current=True)
    engine.current = True


def trained_engine_delete(*, engine: TrainedEngine) -> None:
    """No request can call it any more; its files stay. Raises ApplicationError for the current one
    of several, which requests may count on."""
    others = TrainedEngine.objects.filter(name=engine.name).exclude(pk=engine.pk)
    if engine.current and others.exists():
        raise ApplicationError(
            f"'{engine}' is what '{engine.name}' means. Choose another version for it first.",
            code="engine_in_use",
            status=409,
        )
    engine.delete()
