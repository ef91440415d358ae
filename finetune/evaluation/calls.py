"""Calls of tools compared as what they are: the name of a function, and arguments as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """`arguments` is None where what was written is no JSON object."""

    name: str
    arguments: Mapping[str, Any] | None


def wanted_calls(message: Mapping[str, Any]) -> list[Call]:
    """Those of a message in canonical form."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return [Call(function["name"], function["arguments"]) for function in functions]


def made_calls(answered: Mapping[str, Any]) -> list[Call]:
    """Those that `finetune.engines.evaluate` has read in an answer."""
    return [Call(call["name"], call["arguments"]) for call in answered.get("calls") or ()]


def same_calls(wanted: Sequence[Call], made: Sequence[Call], *, ordered: bool = False) -> bool:
    """Whether just these calls were made; in which order matters only if `ordered`."""
    if len(wanted) != len(made):
        return False
    if ordered:
        return all(_same_call(one, other) for one, other in zip(wanted, made, strict=True))
    left = list(made)
    for call in wanted:
        place = next((n for n, other in enumerate(left) if _same_call(call, other)), None)
        if place is None:
            return False
        del left[place]
    return True


def call_counts(wanted: Sequence[Call], made: Sequence[Call]) -> dict[str, float]:
    """What a row contributes to the figures of calls.

    A call too many counts as one with the wrong name. Each argument of a wanted call counts, and
    each one too many in the call of that name that is nearest to it.
    """
    right = arguments = named = 0
    for call, other in _paired(wanted, made):
        named += other is not None
        given = other.arguments if other is not None else None
        arguments += len((call.arguments or {}).keys() | (given or {}).keys())
        right += _right(call, other)
    return {
        "call_rows": 1.0,
        "calls_exact": float(same_calls(wanted, made)),
        "calls": float(max(len(wanted), len(made))),
        "calls_name": float(named),
        "call_arguments": float(arguments),
        "calls_arguments": float(right),
    }


def same_json(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but neither true nor "1"; the order of keys says nothing."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other


def _same_call(one: Call, other: Call) -> bool:
    return one.name == other.name and same_json(one.arguments, other.arguments)


def _paired(wanted: Sequence[Call], made: Sequence[Call]) -> list[tuple[Call, Call | None]]:
    """Each wanted call with one of its name, those first that have the most arguments right."""
    found: dict[int, Call] = {}
    taken: set[int] = set()
    pairs = [
        (-_right(call, other), place, at)
        for place, call in enumerate(wanted)
        for at, other in enumerate(made)
        if call.name == other.name
    ]
    for _right_ones, place, at in sorted(pairs):
        if place not in found and at not in taken:
            found[place] = made[at]
            taken.add(at)
    return [(call, found.get(place)) for place, call in enumerate(wanted)]


def _right(call: Call, other: Call | None) -> int:
    """How many arguments are as they should be."""
    if other is None or other.arguments is None or call.arguments is None:
        return 0
    return sum(
        name in other.arguments and same_json(value, other.arguments[name])
        for name, value in call.arguments.items()
    )
