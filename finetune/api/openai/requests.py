"""The body of `POST /v1/fine_tuning/jobs`, read field by field as OpenAI has it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.models import TrainingJob
from mlops.exceptions import ApplicationError

AUTO = "auto"
MOST_PAIRS, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
LONGEST_SUFFIX = 64
MOST_EPOCHS, MOST_BATCH, MOST_SEED = 1000, 4096, 2**31 - 1
# What a multiplier of the learning rate multiplies: what "auto" is for a LoRA adapter.
RATES = {TrainingJob.Method.SFT: 2e-4, TrainingJob.Method.DPO: 1e-5}
METHODS = {"supervised": TrainingJob.Method.SFT, "dpo": TrainingJob.Method.DPO}
FIELDS = {
    *("model", "training_file", "validation_file", "hyperparameters", "method", "suffix"),
    *("seed", "metadata", "integrations"),
}
NAMES = {
    "supervised": ("n_epochs", "batch_size", "learning_rate_multiplier"),
    "dpo": ("n_epochs", "batch_size", "learning_rate_multiplier", "beta"),
}


@dataclass(frozen=True, slots=True)
class FineTuningRequest:
    """What was asked for; `options` as our methods take them, `kept` to be given back."""

    model: str
    training_file: str
    validation_file: str
    method: str
    options: dict[str, Any]
    suffix: str
    kept: dict[str, Any]


def request_read(body: Any) -> FineTuningRequest:
    """Raises ApplicationError naming the parameter at fault."""
    if not isinstance(body, dict):
        raise _wrong("", "The body is one JSON object.")
    if unknown := sorted(set(body) - FIELDS):
        raise _wrong(unknown[0], f"Unknown parameter: '{unknown[0]}'.", code="unknown_parameter")
    for name in ("model", "training_file"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise _wrong(
                name, f"Missing required parameter: '{name}'.", code="missing_required_parameter"
            )
    if body.get("integrations"):
        raise _wrong(
            "integrations",
            "integrations: none can be enabled here. Runs are tracked in the platform's MLflow; "
            "leave the parameter out.",
        )
    kind, given = _method(body)
    options = _options(kind, given)
    seed = body.get("seed")
    if seed is None:
        seed = secrets.randbelow(MOST_SEED)
    elif not _whole(seed) or not 0 <= seed <= MOST_SEED:
        raise _wrong("seed", f"seed: a whole number from 0 to {MOST_SEED}.")
    return FineTuningRequest(
        model=body["model"],
        training_file=body["training_file"],
        validation_file=_text(body, "validation_file", 100),
        method=METHODS[kind],
        options=options | {"seed": seed},
        suffix=_text(body, "suffix", LONGEST_SUFFIX),
        kept={"type": kind, "hyperparameters": given, "metadata": metadata_read(body)},
    )


def metadata_read(body: Mapping[str, Any]) -> dict[str, str] | None:
    """At most 16 pairs of short texts. Raises ApplicationError."""
    found = body.get("metadata")
    if found is None:
        return None
    if (
        not isinstance(found, dict)
        or len(found) > MOST_PAIRS
        or not all(isinstance(one, str) and len(one) <= LONGEST_VALUE for one in found.values())
        or any(len(key) > LONGEST_KEY for key in found)
    ):
        raise _wrong(
            "metadata",
            f"metadata: at most {MOST_PAIRS} pairs, of keys up to {LONGEST_KEY} and texts up to "
            f"{LONGEST_VALUE} characters.",
        )
    return found


def _method(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method's name and its hyperparameters, of the new form or the old one."""
    method, old = body.get("method"), body.get("hyperparameters")
    if method is None:
        return "supervised", _object(old, "hyperparameters")
    if not isinstance(method, dict):
        raise _wrong("method", "method: an object with 'type'.")
    kind = method.get("type")
    if kind not in METHODS:
        raise _wrong(
            "method.type",
            f"method.type: one of {', '.join(METHODS)}; '{kind}' is not offered here.",
            code="unsupported_value",
        )
    if unknown := sorted(set(method) - {"type", kind}):
        raise _wrong(f"method.{unknown[0]}", f"method.{unknown[0]} doesn't go with type '{kind}'.")
    place = f"method.{kind}"
    configured = _object(method.get(kind), place)
    if unknown := sorted(set(configured) - {"hyperparameters"}):
        raise _wrong(f"{place}.{unknown[0]}", f"Unknown parameter: '{place}.{unknown[0]}'.")
    given = _object(configured.get("hyperparameters"), f"{place}.hyperparameters")
    if old is not None and kind == "supervised" and not given:
        given = _object(old, "hyperparameters")
    return kind, given


def _options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(NAMES[kind])):
        raise _wrong(
            f"hyperparameters.{unknown[0]}",
            f"hyperparameters: {kind} has {', '.join(NAMES[kind])}.",
        )
    options: dict[str, Any] = {}
    if (epochs := _number(given, "n_epochs", 1, MOST_EPOCHS, whole=True)) is not None:
        options["epochs"] = epochs
    if (size := _number(given, "batch_size", 1, MOST_BATCH, whole=True)) is not None:
        options["batch_size"] = size
    if (times := _number(given, "learning_rate_multiplier", 0, 1000)) is not None:
        options["learning_rate"] = RATES[METHODS[kind]] * times
    if (beta := _number(given, "beta", 0, 2)) is not None:
        options["beta"] = beta
    return options


def _number(
    given: Mapping[str, Any], name: str, least: float, most: float, *, whole: bool = False
) -> float | None:
    """None for "auto" and for what isn't given."""
    value = given.get(name)
    if value is None or value == AUTO:
        return None
    number = _whole(value) or (isinstance(value, float) and math.isfinite(value) and not whole)
    # Nothing is learned at a rate of 0.
    above = value >= least if whole else number and value > least
    if not number or not above or value > most:
        kind = "a whole number from" if whole else "a number above"
        raise _wrong(f"hyperparameters.{name}", f"{name}: 'auto', or {kind} {least} to {most}.")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(value: Any, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(place, f"{place}: an object.")
    return value


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise _wrong(name, f"{name}: a text of at most {longest} characters.")
    return value


def _wrong(param: str, message: str, *, code: str = "invalid_value") -> ApplicationError:
    return ApplicationError(message, code=code, param=param or None)
