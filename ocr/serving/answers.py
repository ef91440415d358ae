"""What is asked of the server, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops.exceptions import ApplicationError
from ocr.languages import UnknownLanguage, parse_languages
from ocr.reader import PageOutcome, ReadRequest

# Between pages, as in a job's text.
_PAGE_BREAK = "\n\f"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request that names nothing but its image gets."""

    engine: str
    language: str
    min_confidence: float
    dpi: int


@dataclass(frozen=True, slots=True)
class Question:
    """How one document is to be read."""

    read: ReadRequest
    min_confidence: float
    dpi: int


def question(fields: Mapping[str, str], defaults: Defaults) -> Question:
    """From a form's fields, all of them optional. Raises ApplicationError naming the field.

    `use_angle_cls` is what `rotate` was called before.
    """
    try:
        languages = parse_languages(fields.get("language") or defaults.language)
    except UnknownLanguage as error:
        raise _bad("language", str(error)) from error
    return Question(
        read=ReadRequest(
            engine=fields.get("engine") or "auto",
            languages=languages,
            default_engine=defaults.engine,
            text_layer=_choice(fields, "text_layer", ("use", "ignore")),
            rotate=_flag(fields, "rotate", _flag(fields, "use_angle_cls", True)),
        ),
        min_confidence=_number(fields, "confidence_threshold", defaults.min_confidence, 0, 1),
        dpi=round(_number(fields, "dpi", defaults.dpi, 50, 600)),
    )


def answer(outcomes: Sequence[PageOutcome], min_confidence: float) -> dict[str, Any]:
    """`text_boxes`, `full_text`, `status`, `error` as the sync endpoint's `data` has them.

    A page that could not be read makes the whole `failed`; what the others gave is there.
    """
    failed = [
        f"Page {number}: {outcome.error}" if len(outcomes) > 1 else outcome.error
        for number, outcome in enumerate(outcomes, 1)
        if outcome.error
    ]
    return {
        "status": "failed" if failed else "succeeded",
        "error": " ".join(failed) or None,
        "full_text": _PAGE_BREAK.join(outcome.text for outcome in outcomes).rstrip("\n"),
        "text_boxes": [
            {"page": number, **line, "low_confidence": line["confidence"] < min_confidence}
            for number, outcome in enumerate(outcomes, 1)
            for line in outcome.lines
        ],
        "pages": [
            {
                "page": number,
                "width": outcome.width,
                "height": outcome.height,
                "dpi": outcome.dpi,
                "rotation": outcome.rotation,
                "skew": outcome.skew,
                "engine": outcome.engine,
                "language": outcome.language,
                "model_version": outcome.model_version,
                "device": outcome.device,
                "seconds": round(outcome.seconds, 3),
                "mean_confidence": outcome.mean_confidence,
                "note": outcome.note or None,
                "error": outcome.error or None,
                "blocks": outcome.blocks,
            }
            for number, outcome in enumerate(outcomes, 1)
        ],
    }


def _number(
    fields: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    if not (text := fields.get(name)):
        return default
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise _bad(name, f"Give a number from {least} to {most} as {name}.")
    return value


def _flag(fields: Mapping[str, str], name: str, default: bool) -> bool:
    text = fields.get(name, "").lower()
    if text and text not in _TRUE | _FALSE:
        raise _bad(name, f"Give true or false as {name}.")
    return text in _TRUE if text else default


def _choice(fields: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The first is the default."""
    value = fields.get(name) or choices[0]
    if value not in choices:
        raise _bad(name, f"Give one of {', '.join(choices)} as {name}.")
    return value


def _bad(param: str, message: str) -> ApplicationError:
    return ApplicationError(message, code="invalid", param=param)
