"""Long documents in pieces that a model's context holds, and the pieces' values put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Of a window's tokens: so much is said again in the next, for values that stand on a border.
SHARED = 0.1


def windows(lines: Sequence[str], *, count: Callable[[str], int], most: int) -> list[list[str]]:
    """The lines cut into runs of at most `most` tokens; a longer line stands alone and is cut.

    Tokens are counted line by line, which is a few more than all lines together have.
    """
    sizes = [count(line) + 1 for line in lines]
    if sum(sizes) <= most:
        return [list(lines)]
    found: list[list[str]] = []
    start = 0
    while start < len(lines):
        end, size = start, 0
        while end < len(lines) and (end == start or size + sizes[end] <= most):
            size += sizes[end]
            end += 1
        found.append(list(lines[start:end]))
        if end == len(lines):
            break
        back, shared = end, 0
        while back - 1 > start and shared + sizes[back - 1] <= most * SHARED:
            back -= 1
            shared += sizes[back]
        start = back
    return found


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One object of several: the first that says a value has it; lists are joined."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name not in whole or whole[name] in (None, ""):
                whole[name] = value
            elif isinstance(value, Mapping) and isinstance(whole[name], Mapping):
                whole[name] = merged([whole[name], value])
            elif isinstance(value, list) and isinstance(whole[name], list):
                whole[name] = [*whole[name], *(one for one in value if one not in whole[name])]
    return whole
