"""Sweeps as people look at them: a row a trial, and all trials as lines through parallel axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.models import Sweep, TrainingJob
from finetune.models.sweeps import objective
from finetune.sweeps.advance import given_up

# The picture: its height, room above and below the axes, and the width between two of them.
HEIGHT, TOP, LOW, STEP, SIDE = 320, 34, 30, 250, 80


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """`value` as of now, while it runs; `best` marks the best so far, or of all."""

    job: TrainingJob
    value: float | None
    pruned: bool
    best: bool


def trials_shown(sweep: Sweep) -> list[ShownTrial]:
    """In the order in which they are tried."""
    pruned = given_up(sweep)
    found = [
        (job, objective(job, sweep.metric, minimize=sweep.minimize))
        for job in sweep.tried().prefetch_related("versions__language_model")
    ]
    best = sweep.best_id or next((job.pk for job, _value in sweep.ranked()), None)
    return [ShownTrial(job, value, job.pk in pruned, job.pk == best) for job, value in found]


def parallel_axes(sweep: Sweep, trials: Sequence[ShownTrial]) -> dict[str, Any]:
    """An axis for each option and one for the figure; a line for each trial that has a value."""
    drawn = [one for one in trials if one.value is not None and one.job.trial_values]
    if not drawn:
        return {}
    axes = [
        _Axis(name, [one.job.trial_values.get(name) for one in drawn], SIDE + place * STEP, given)
        for place, (name, given) in enumerate(sweep.space.items())
    ]
    figure = _Axis(sweep.metric, [one.value for one in drawn], SIDE + len(axes) * STEP, {})
    order = sorted(drawn, key=lambda one: one.value or 0.0, reverse=not sweep.minimize)
    ranks = {one.job.pk: place / max(1, len(order) - 1) for place, one in enumerate(order)}
    lines = []
    # The better ones are drawn over the others.
    for one in reversed(order):
        points = [(axis.x, axis.y(one.job.trial_values.get(axis.name))) for axis in axes]
        points.append((figure.x, figure.y(one.value)))
        lines.append(
            {
                "points": " ".join(f"{x},{y}" for x, y in points),
                "trial": one.job.trial,
                "rank": min(4, int(ranks[one.job.pk] * 5)),
                "best": one.best,
                "pruned": one.pruned,
                "title": f"Trial {one.job.trial}: "
                + ", ".join(
                    f"{name} {short(value)}" for name, value in one.job.trial_values.items()
                )
                + f"; {sweep.metric} {short(one.value)}",
            }
        )
    return {
        "width": 2 * SIDE + len(axes) * STEP,
        "height": HEIGHT,
        "top": TOP,
        "base": HEIGHT - LOW,
        "name_y": TOP - 16,
        "axes": [axis.drawn() for axis in (*axes, figure)],
        "lines": lines,
    }


class _Axis:
    """Numbers by their size or magnitude, anything else by its place in the list of choices."""

    def __init__(self, name: str, values: Sequence[Any], x: int, given: Any) -> None:
        self.name, self.x = name, x
        numbers = [value for value in values if _number(value)]
        self._numeric = len(numbers) == len(values)
        self._choices = sorted({str(value) for value in values})
        low, high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
        asked = isinstance(given, dict) and bool(given.get("log"))
        self._log = low > 0 and (asked or high / low >= 20)
        self._low, self._high = low, high
        self._values = sorted(set(numbers)) if self._numeric else []

    def y(self, value: Any) -> float:
        """From the bottom, the least, to the top."""
        if self._numeric:
            low, high, at = (self._scaled(one) for one in (self._low, self._high, value))
            share = (at - low) / (high - low) if high > low else 0.5
        else:
            last = len(self._choices) - 1
            share = self._choices.index(str(value)) / last if last else 0.5
        return round(HEIGHT - LOW - share * (HEIGHT - LOW - TOP), 1)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def drawn(self) -> dict[str, Any]:
        if not self._numeric:
            shown = [(choice, choice) for choice in self._choices]
        elif len(self._values) <= 5:
            shown = [(value, short(value)) for value in self._values]
        else:
            shown = [(value, short(value)) for value in (self._low, self._high)]
        ticks = [{"y": self.y(value), "text": text} for value, text in shown]
        return {"name": self.name, "x": self.x, "text_x": self.x + 8, "ticks": ticks}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def short(value: Any) -> str:
    """0.0002, 1.5e-05 or a word."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
