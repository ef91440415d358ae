"""What a sweep tries: choices and ranges by option, checked as one training's options are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, get_args, get_type_hints

from finetune.engines.configs import CONFIGS, config_of
from mlops.exceptions import ApplicationError

MOST_TRIALS = 200
# Where a training runs, and what it goes on from, is no matter of how good it is.
FIXED = (
    "device",
    "processes",
    "machines",
    "resume_from",
    "log_steps",
    "keep_checkpoints",
    "save_steps",
)

Space = Mapping[str, Any]


def space_read(method: str, options: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The space with values in the options' own types. Raises ApplicationError."""
    config_of(method, options)
    if not isinstance(space, Mapping) or not space:
        raise _wrong("name at least one option to try, with its choices or its range")
    found: dict[str, Any] = {}
    for name, given in space.items():
        if name in FIXED:
            raise _wrong(f"'{name}' is the same for all trials; put it among the options")
        if isinstance(given, Mapping):
            found[name] = _range(method, options, name, given)
        elif isinstance(given, list | tuple) and given:
            found[name] = list(
                dict.fromkeys(_value(method, options, name, value) for value in given)
            )
        else:
            raise _wrong(f"'{name}' takes a list of values, or {{low, high, log}}")
    return found


def _value(method: str, options: Mapping[str, Any], name: str, value: Any) -> Any:
    """As a training of these options would have it. Raises ApplicationError."""
    return getattr(config_of(method, {**options, name: value}), name)


def _range(
    method: str, options: Mapping[str, Any], name: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    if unknown := set(given) - {"low", "high", "log"}:
        raise _wrong(f"a range has low, high and log, not '{sorted(unknown)[0]}' ('{name}')")
    low, high = (_value(method, options, name, given.get(end, "")) for end in ("low", "high"))
    for end in (low, high):
        if isinstance(end, bool | str):
            raise _wrong(f"'{name}' is no number; give a list of values")
    if not low < high:
        raise _wrong(f"'{name}': low must be less than high")
    log = bool(given.get("log", False))
    if log and low <= 0:
        raise _wrong(f"'{name}': a range by magnitude (log) begins above 0")
    return {"low": low, "high": high, "log": log}


def is_whole(method: str, name: str) -> bool:
    """Whether the option's numbers are whole ones."""
    hint = get_type_hints(CONFIGS[method])[name]
    return int in (get_args(hint) or (hint,))


def combinations(space: Space) -> list[dict[str, Any]]:
    """Every one, the last option changing first. Raises ApplicationError for ranges or too many."""
    for name, given in space.items():
        if isinstance(given, Mapping):
            raise _wrong(
                f"a grid needs a list of values for '{name}'; a range is for 'search': 'optuna'"
            )
    count = math.prod(len(values) for values in space.values())
    if count > MOST_TRIALS:
        raise _wrong(
            f"these are {count:,} combinations, and a grid has at most {MOST_TRIALS}. Take fewer "
            "values, or let Optuna choose ('search': 'optuna')"
        )
    names = list(space)
    return [dict(zip(names, values, strict=True)) for values in product(*space.values())]


def finite_count(space: Space) -> int | None:
    """How many combinations there are; None where a range has no end of them."""
    if any(isinstance(given, Mapping) for given in space.values()):
        return None
    return math.prod(len(values) for values in space.values())


def _wrong(what: str) -> ApplicationError:
    return ApplicationError(f"space: {what}.", code="invalid_space", param="space")
