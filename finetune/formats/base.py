"""What a format of training data is, and what is said of a row that doesn't keep to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Kind = Literal["chat", "completion", "text", "preference", "ocr"]
KINDS: tuple[Kind, ...] = ("chat", "completion", "text", "preference", "ocr")

# One row as it came, and in its canonical form (`formats.kinds` says what each kind holds).
Given = dict[str, Any]
Row = dict[str, Any]

# More would be no text that anything learns from, and a page of the console could not show it.
MOST_CHARACTERS = 4_000_000


class Trouble(NamedTuple):
    """What is wrong with one field of a row; `code` is one of `checks.problems.PROBLEMS`."""

    code: str
    field: str
    message: str


Troubles = list[Trouble]


@dataclass(frozen=True, slots=True)
class Format:
    """A form in which people have their data.

    `matches` looks at names and types alone and says whether a row is meant to be of this format;
    `convert` gives the canonical row, or None once it has said in `troubles` why not.
    """

    name: str
    kind: Kind
    title: str
    example: str
    matches: Callable[[Given], bool]
    convert: Callable[[Given, Troubles], Row | None]


def text_of(given: Given, field: str, troubles: Troubles) -> str | None:
    """The string in `field`; None with a trouble said for anything else."""
    if field not in given:
        troubles.append(Trouble("missing_field", field, f"The row has no '{field}'."))
        return None
    value = given[field]
    if isinstance(value, str):
        return value
    troubles.append(Trouble("not_text", field, f"'{field}' is {named(value)}, not a string."))
    return None


def named(value: Any) -> str:
    """A JSON value's type as people say it."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    names |= {str: "a string", list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)
