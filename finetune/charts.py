"""The report's charts as inline SVG: what to draw where. Units are those of each viewBox."""

from __future__ import annotations

from typing import Any

from finetune.content.facts import SPLITS

NAMES = {"ko": "Korean", "en": "Latin script", "ja": "Japanese", "zh": "Chinese", "other": "other"}
# A histogram's width and height, the gap between bars, and what is drawn of a bar that has rows.
SPAN, HEIGHT, GAP, LEAST = 640, 150, 8, 2
# Beside few rows or only one a bar is no broader.
BROADEST = 90
# A bar that shows shares, and the least of it that holds a label.
WIDTH = 1000


def histogram(bins: list[dict[str, int]]) -> dict[str, Any]:
    """Rows by length; each bar with its count above and where it begins below."""
    most = max((one["rows"] for one in bins), default=1)
    step = min(BROADEST, SPAN / max(1, len(bins)))
    bars = []
    for place, one in enumerate(bins):
        height = max(LEAST, round(HEIGHT * one["rows"] / most)) if one["rows"] else 0
        bars.append(
            {
                "x": round(place * step + GAP / 2, 1),
                "middle": round((place + 0.5) * step, 1),
                "y": HEIGHT - height + 20,
                "height": height,
                "width": round(step - GAP, 1),
                "label_y": HEIGHT - height + 14,
                "rows": short(one["rows"]) if one["rows"] else "",
                "from": short(one["from"]),
                "title": f"{one['from']:,} to {one['to'] - 1:,} tokens: {one['rows']:,} rows",
            }
        )
    return {"bars": bars, "width": SPAN, "base": HEIGHT + 20.5, "text": HEIGHT + 37}


def split_bar(splits: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """The splits side by side, as wide as they have rows."""
    total = sum(one["rows"] for one in splits.values()) or 1
    parts, x = [], 0.0
    # A database may give the names in another order.
    for name, one in ((name, splits[name]) for name in SPLITS):
        width = WIDTH * one["rows"] / total
        parts.append({"name": name, "x": round(x, 2), "width": round(width, 2), **one})
        parts[-1]["percent"] = f"{one['rows'] / total:.1%}"
        x += width
    return parts


def language_bars(languages: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "name": NAMES.get(name, name),
            "width": max(1.0, round(WIDTH * share, 1)),
            "percent": f"{share:.1%}",
        }
        for name, share in by_share(languages)
    ]


def by_share(languages: dict[str, float]) -> list[tuple[str, float]]:
    """The most frequent first."""
    return sorted(languages.items(), key=lambda one: -one[1])


def short(number: int) -> str:
    """1,234 as 1.2k."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + letter
    return str(number)
