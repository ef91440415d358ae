"""Lines corrected a window at a time, by whatever asks the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from llm.correction.guard import cleaned

# Lines in one request: enough to see what the page is about, few enough to keep count.
WINDOW = 24


class Ask(Protocol):
    """The model's lines for these; None where it gave no whole answer or they don't fit."""

    def __call__(self, lines: Sequence[str]) -> list[str] | None: ...


def corrected(
    lines: Sequence[str], ask: Ask, *, check: Callable[[], None] = lambda: None
) -> list[str | None]:
    """For each line what the model makes of it; None where it made nothing.

    A window that gets no answer is halved, down to single lines. `check` is called between two
    windows, and raises what is to end the work there.
    """
    found: list[str | None] = []
    for start in range(0, len(lines), WINDOW):
        if start:
            check()
        found += _window(lines[start : start + WINDOW], ask)
    return found


def _window(lines: Sequence[str], ask: Ask) -> list[str | None]:
    answer = ask(lines)
    if answer is not None:
        return [cleaned(line) for line in answer]
    if len(lines) == 1:
        return [None]
    middle = len(lines) // 2
    return [*_window(lines[:middle], ask), *_window(lines[middle:], ask)]
