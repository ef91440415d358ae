"""Tokens a day by model, as Chart.js takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from ocr.quality_charts import COLOURS, TICKS

OTHERS = "others"
OTHERS_COLOUR = "#9ca3af"


def bars(rows: Sequence[dict[str, Any]], *, first: date, last: date) -> dict[str, str]:
    """`data` and `options` of a stack a day; `rows` have day, model and tokens.

    The models with the most tokens have a colour of their own, the rest share one.
    """
    totals: dict[str, int] = {}
    for row in rows:
        totals[row["model"]] = totals.get(row["model"], 0) + row["tokens"]
    most = sorted(totals, key=lambda name: -totals[name])[: len(COLOURS)]
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    stacks = {name: dict.fromkeys(days, 0) for name in most}
    for row in rows:
        stack = stacks.setdefault(
            row["model"] if row["model"] in most else OTHERS, dict.fromkeys(days, 0)
        )
        if row["day"] in stack:
            stack[row["day"]] += row["tokens"]
    colours = dict(zip(most, COLOURS, strict=False)) | {OTHERS: OTHERS_COLOUR}
    data = {
        "labels": [day.isoformat() for day in days],
        "datasets": [
            {
                "label": name,
                "data": list(stack.values()),
                "backgroundColor": colours[name],
                "maxBarThickness": 26,
                "borderRadius": 2,
            }
            for name, stack in stacks.items()
        ],
    }
    return {"data": json.dumps(data), "options": json.dumps(OPTIONS)}


_AXIS = {"stacked": True, "border": {"display": False}, "beginAtZero": True}
OPTIONS = {
    "animation": False,
    "responsive": True,
    "maintainAspectRatio": False,
    "interaction": {"mode": "index", "intersect": False},
    "scales": {
        "x": _AXIS | {"grid": {"display": False}, "ticks": {"color": TICKS, "maxTicksLimit": 12}},
        "y": _AXIS
        | {
            "grid": {"tickWidth": 0},
            "ticks": {"color": TICKS},
            "title": {"display": True, "text": "tokens", "color": TICKS},
        },
    },
    "plugins": {
        "legend": {
            "position": "bottom",
            "align": "start",
            "labels": {
                **{"boxHeight": 6, "boxWidth": 6, "color": TICKS},
                **{"pointStyle": "circle", "usePointStyle": True},
            },
        }
    },
}
