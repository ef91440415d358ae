"""A version of a recogniser as its page shows it: what it reads, how well, and how it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune.models import ModelVersion, TrainingJob
from mlops import display
from ocr.models import TrainedEngine

CER = "eval_cer"


@dataclass(frozen=True, slots=True)
class ShownRecogniser:
    """`before` is what it began with; "" where that is not known any more."""

    characters: str
    count: int
    languages: str
    cer: str
    before: str
    height: int
    width: int
    calls: list[str]
    current: bool


def recogniser_view(version: ModelVersion) -> ShownRecogniser | None:
    """None for what is no recogniser."""
    if version.form != ModelVersion.Form.RECOGNISER:
        return None
    facts = version.facts
    options: dict[str, Any] = facts.get("options", {})
    characters = str(facts.get("characters", ""))
    calls = version.called_by
    engine = TrainedEngine.objects.filter(name=version.name, number=version.number).first()
    return ShownRecogniser(
        characters=characters,
        count=len(characters),
        languages=", ".join(facts.get("languages", [])),
        cer=percent(facts.get("metrics", {}).get(CER)),
        before=_before(version.job),
        height=int(options.get("height", 0)),
        width=int(options.get("max_width", 0)),
        calls=calls,
        current=engine is not None and engine.current,
    )


def percent(value: float | None) -> str:
    return display.NOTHING if value is None else f"{value:.2%}".replace("%", " %")


def _before(job: TrainingJob | None) -> str:
    """The CER of the training that it went on from; else the first that was measured."""
    if job is None:
        return ""
    if earlier := job.options.get("resume_from"):
        version = ModelVersion.objects.filter(job=earlier).order_by("-step").first()
        found = version.facts.get("metrics", {}).get(CER) if version else None
        return f"{percent(found)}, {version}" if found is not None else ""
    first = job.metrics.filter(values__has_key=CER).order_by("step").first()
    return f"{percent(first.values[CER])} at step {first.step:,}" if first else ""
