"""The quality page's charts as Chart.js takes them: error rates in percent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

# Told apart on white and on black, and by people who can't tell red from green.
COLOURS = (
    *("#3b82f6", "#f59e0b", "#10b981", "#ec4899"),
    *("#8b5cf6", "#06b6d4", "#ef4444", "#84cc16"),
)
TICKS = "#9ca3af"
# More are in the table; a chart of them would not be legible.
SHOWN = len(COLOURS)

Key = tuple[str, str, str]


def key(row: dict[str, Any]) -> Key:
    return row["engine"], row["language"], row["model_version"]


def chart_colours(groups: Sequence[dict[str, Any]]) -> dict[Key, str]:
    """A colour for each of the groups with the most pages, the same in both charts."""
    most = sorted(groups, key=lambda row: -row["pages"])[:SHOWN]
    return {key(row): colour for row, colour in zip(most, COLOURS, strict=False)}


def bars(groups: Sequence[dict[str, Any]], colours: dict[Key, str]) -> dict[str, str]:
    """`data` and `options` of a bar a group, the best on top."""
    rows = sorted((row for row in groups if key(row) in colours), key=lambda row: row["cer_micro"])
    data = {
        "labels": [
            [f"{row['engine']} · {row['language']}", f"{row['model_version']}, {pages(row)}"]
            for row in rows
        ],
        "datasets": [
            {
                "label": "CER, %",
                "data": [percent(row["cer_micro"]) for row in rows],
                "backgroundColor": [colours[key(row)] for row in rows],
                "maxBarThickness": 22,
                "borderRadius": 4,
            }
        ],
    }
    options = {
        **_shared(legend=False),
        "indexAxis": "y",
        "scales": {
            "x": _axis(title="CER, %", grid=True),
            "y": _axis(grid=False, autoSkip=False),
        },
    }
    return _chart(data, options)


def lines(series: Sequence[dict[str, Any]], colours: dict[Key, str]) -> dict[str, str]:
    """`data` and `options` of a line a group over the periods; a period without pages is a gap."""
    periods = sorted({row["period"] for row in series})
    rates = {(key(row), row["period"]): row["cer_micro"] for row in series}
    data = {
        "labels": [period.isoformat() for period in periods],
        "datasets": [
            {
                "label": " · ".join(group),
                "data": [
                    percent(rates[group, period]) if (group, period) in rates else None
                    for period in periods
                ],
                "borderColor": colour,
                "backgroundColor": colour,
                "borderWidth": 2,
                "pointRadius": 3,
                "spanGaps": True,
            }
            for group, colour in colours.items()
        ],
    }
    options = {
        **_shared(legend=True),
        "interaction": {"mode": "index", "intersect": False},
        "scales": {
            "x": _axis(grid=False),
            "y": _axis(title="CER, %", grid=True),
        },
    }
    return _chart(data, options)


def percent(rate: float) -> float:
    return round(rate * 100, 2)


def pages(row: dict[str, Any]) -> str:
    return f"{row['pages']:,} page{'' if row['pages'] == 1 else 's'}"


def _shared(*, legend: bool) -> dict[str, Any]:
    return {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "plugins": {
            "legend": {
                "display": legend,
                "position": "bottom",
                "align": "start",
                "labels": {
                    **{"boxHeight": 6, "boxWidth": 6, "color": TICKS},
                    **{"pointStyle": "circle", "usePointStyle": True},
                },
            }
        },
    }


def _axis(*, grid: bool, title: str = "", **ticks: Any) -> dict[str, Any]:
    return {
        "beginAtZero": True,
        "border": {"display": False},
        "grid": {"display": grid, "tickWidth": 0},
        "ticks": {"color": TICKS, **ticks},
        "title": {"display": bool(title), "text": title, "color": TICKS},
    }


def _chart(data: dict[str, Any], options: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(data), "options": json.dumps(options)}
