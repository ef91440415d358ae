"""The figures of an evaluation as inline SVG: bars with whiskers, in units of the viewBox."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from finetune.evaluation.metrics import FIELD, difference_shown, metric_of, shown
from finetune.evaluation.results import verdict

# Of one figure's picture: where bars begin and end, a side's height, and the height of a bar.
# What the bars stand for is written to the right of them.
LEFT, RIGHT, WIDTH, STEP, BAR, HEAD = 0, 400, 640, 28, 16, 6
TICKS = 4
WORDS = {"better": "success", "worse": "danger", "": ""}


def figures_chart(result: dict[str, Any], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """A picture for each figure that a side has, all sides below each other on one scale."""
    sides = result.get("sides", [])
    pictures = []
    for name in metrics:
        found = [
            (place, side["figures"][name])
            for place, side in enumerate(sides)
            if name in side["figures"]
        ]
        if found:
            pictures.append(_picture(name, sides, found))
    return pictures


def _picture(
    name: str, sides: list[dict[str, Any]], found: list[tuple[int, dict[str, Any]]]
) -> dict[str, Any]:
    metric = metric_of(name)
    low = min(0.0, *(figure["low"] for _place, figure in found))
    high = max(figure["high"] for _place, figure in found)
    # A share is shown of the whole, unless all are so small that nothing would be seen.
    high = 1.0 if metric.share and 0.2 < high <= 1 else _round_up(high)

    def x(value: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * (value - low) / ((high - low) or 1.0), 1)

    bars = []
    for row, (place, figure) in enumerate(found):
        top = HEAD + row * STEP
        start, end = sorted((x(0.0), x(figure["value"])))
        bars.append(
            {
                "label": sides[place]["label"],
                "side": place % 8,
                "x": start,
                "y": top,
                "width": max(1.0, round(end - start, 1)),
                "height": BAR,
                "middle": top + BAR / 2,
                "text_y": top + BAR - 3,
                "cap_top": top + 3,
                "cap_low": top + BAR - 3,
                "low": x(figure["low"]),
                "high": x(figure["high"]),
                "value": shown(name, figure["value"]),
                "interval": f"{shown(name, figure['low'])} to {shown(name, figure['high'])}",
                "n": figure["n"],
            }
        )
    height = HEAD + len(bars) * STEP
    ticks = [low + (high - low) * n / TICKS for n in range(TICKS + 1)]
    return {
        "name": name,
        "title": metric.title,
        "better": "more is better" if metric.better == "high" else "less is better",
        "bars": bars,
        "width": WIDTH,
        "right": RIGHT,
        "value_x": RIGHT + 88,
        "height": height + 18,
        "base": height,
        "tick_text": height + 14,
        "ticks": [
            {
                "x": x(value),
                "text": shown(name, value),
                "anchor": ("start", "end")[n == TICKS] if n in (0, TICKS) else "middle",
            }
            for n, value in enumerate(ticks)
        ],
    }


def differences_table(result: dict[str, Any], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Any two sides: by figure how far the later one is from the earlier, and whether it's sure."""
    sides = result.get("sides", [])
    rows = []
    for one in result.get("differences", []):
        if one["metric"] not in metrics:
            continue
        found = verdict(one)
        rows.append(
            {
                "a": sides[one["a"]]["label"],
                "b": sides[one["b"]]["label"],
                "metric": metric_of(one["metric"]).title,
                "value": difference_shown(one["metric"], one["value"]),
                "interval": f"{difference_shown(one['metric'], one['low'])} to "
                f"{difference_shown(one['metric'], one['high'])}",
                "verdict": found or "not told apart",
                "variant": WORDS[found],
            }
        )
    return rows


def fields_table(result: dict[str, Any]) -> dict[str, Any] | None:
    """Of answers in JSON: a row a field, a column a side."""
    sides = result.get("sides", [])
    names = sorted(
        {
            name.removesuffix(".exact")
            for side in sides
            for name in side["figures"]
            if name.startswith(FIELD) and name.endswith(".exact")
        }
    )
    if not names:
        return None
    rows = []
    for name in names:
        cells = []
        for side in sides:
            exact, fuzzy = (side["figures"].get(f"{name}.{what}") for what in ("exact", "fuzzy"))
            cells.append(
                {
                    "exact": shown("exact", exact["value"]) if exact else "",
                    "interval": f"{shown('exact', exact['low'])} to {shown('exact', exact['high'])}"
                    if exact
                    else "",
                    "fuzzy": shown("exact", fuzzy["value"]) if fuzzy else "",
                    "n": exact["n"] if exact else 0,
                }
            )
        rows.append({"field": name.removeprefix(FIELD), "cells": cells})
    return {"labels": [side["label"] for side in sides], "rows": rows}


def _round_up(value: float) -> float:
    """To 1, 2, 2.5 or 5 of a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(
        step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if value <= step * power
    )
