"""The engines that training has made, as settings would name them."""

from __future__ import annotations

from django.conf import settings

from mlops.engines import EngineSpec
from ocr.models import TrainedEngine

# What each may run on, as the beginning of its name.
BACKENDS = {
    "recogniser": "ocr.engines.recogniser.RecogniserEngine",
    "easyocr": "ocr.engines.easyocr.EasyOcrEngine",
}


def specs() -> dict[str, EngineSpec]:
    """By alias; see `TrainedEngine`."""
    found = {}
    for engine in TrainedEngine.objects.all():
        for name in [str(engine)] + [engine.name] * engine.current:
            for prefix in BACKENDS:
                alias = f"{prefix}:{name}"
                found[alias] = _spec(alias, prefix, engine)
    return found


def aliases(engine: TrainedEngine) -> list[str]:
    """What requests may call this very version."""
    return [f"{prefix}:{engine}" for prefix in BACKENDS]


def _spec(alias: str, prefix: str, engine: TrainedEngine) -> EngineSpec:
    return EngineSpec(
        alias,
        BACKENDS[prefix],
        {
            "languages": list(engine.languages),
            "label": str(engine),
            "device": settings.OCR_DEVICE,
        },
        source=engine.source,
        only_asked=True,
    )
