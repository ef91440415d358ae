"""Figures over all rows, with confidence intervals, and the differences between sides.

Intervals are percentiles of the bootstrap (Efron 1979): groups of rows are drawn with replacement,
a page's lines or a document's pages together, since they stand or fall together. All sides get the
same draws, so that a difference is compared row by row (paired). Where all rows agree, draws can't
differ: then the interval is as wide as what so many rows can rule out (Clopper and Pearson 1934).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from finetune.evaluation.metrics import field_metrics, metric_of
from finetune.evaluation.scoring import Counts

SAMPLES = 1000
LEVEL = 0.95
# More groups are put together at random before they are drawn from: the spread stays the same.
MOST_GROUPS = 1500


@dataclass(slots=True)
class SideRows:
    """The counts of a side's rows: (group, counts) each."""

    label: str
    rows: list[tuple[str, Counts]] = field(default_factory=list)


def result_of(
    sides: Sequence[SideRows],
    metrics: Iterable[str],
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """{"sides": [{label, figures: {metric: {value, low, high, n}}}], "differences": [{a, b, metric,
    value, low, high}], "level", "samples", "groups"}; a and b are places among the sides, and a
    difference is b less a."""
    table = _Table(sides, list(metrics), seed)
    draws = table.draws(samples, seed)
    shown: list[dict[str, Any]] = []
    for place, side in enumerate(sides):
        figures = {
            name: table.interval(name, table.value(place, name), table.column(place, name, draws))
            | {"n": table.rows(place, name)}
            for name in table.names
            if table.value(place, name) is not None
        }
        shown.append({"label": side.label, "figures": figures})
    differences = []
    for a, b in combinations(range(len(sides)), 2):
        for name in table.names:
            one, other = table.value(a, name), table.value(b, name)
            if one is None or other is None:
                continue
            drawn = [
                later - former
                for former, later in zip(
                    table.column(a, name, draws), table.column(b, name, draws), strict=True
                )
                if former is not None and later is not None
            ]
            found = table.interval(name, other - one, drawn, signed=True)
            differences.append({"a": a, "b": b, "metric": name, **found})
    return {
        "sides": shown,
        "differences": differences,
        "level": LEVEL,
        "samples": samples,
        "groups": table.size,
    }


class _Table:
    """Sums of counts by group: a column a side and count."""

    def __init__(self, sides: Sequence[SideRows], metrics: list[str], seed: int) -> None:
        of_fields: dict[str, float] = {}
        for side in sides:
            for _group, counts in side.rows:
                of_fields |= dict.fromkeys(field_metrics(counts), 0.0)
        self.names = [*metrics, *sorted(of_fields)]
        places = _places([group for side in sides for group, _counts in side.rows], seed)
        self.size = max(places.values(), default=-1) + 1
        self._sums: list[dict[str, list[float]]] = []
        self._rows: list[dict[str, int]] = []
        for side in sides:
            sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * self.size)
            rows: dict[str, int] = defaultdict(int)
            for group, counts in side.rows:
                for name, value in counts.items():
                    sums[name][places[group]] += value
                    rows[name] += 1
            self._sums.append(sums)
            self._rows.append(rows)
        self._columns: dict[tuple[int, str], list[float | None]] = {}

    def draws(self, samples: int, seed: int) -> list[list[int]]:
        """The same for every side and figure."""
        chance, every = random.Random(seed), range(self.size)
        return [chance.choices(every, k=self.size) for _sample in range(samples if every else 0)]

    def rows(self, side: int, name: str) -> int:
        return self._rows[side].get(metric_of(name).bottom, 0)

    def value(self, side: int, name: str) -> float | None:
        metric, sums = metric_of(name), self._sums[side]
        if metric.top not in sums or metric.bottom not in sums:
            return None
        return metric.value(sum(sums[metric.top]), sum(sums[metric.bottom]))

    def column(self, side: int, name: str, draws: Sequence[list[int]]) -> list[float | None]:
        """The figure for each draw."""
        key = side, name
        if key not in self._columns:
            metric, sums = metric_of(name), self._sums[side]
            top, bottom = sums[metric.top].__getitem__, sums[metric.bottom].__getitem__
            self._columns[key] = [
                metric.value(sum(map(top, draw)), sum(map(bottom, draw))) for draw in draws
            ]
        return self._columns[key]

    def interval(
        self,
        name: str,
        value: float | None,
        drawn: Iterable[float | None],
        *,
        signed: bool = False,
    ) -> dict[str, float | None]:
        """Of a figure, or of a difference of two, which may be below 0 (`signed`)."""
        found = _interval(value, drawn)
        low, high = found["low"], found["high"]
        if low is None or high is None or high - low > 1e-12 or not metric_of(name).share:
            return found
        room = 1 - ((1 - LEVEL) / 2) ** (1 / self.size)
        # An error rate may be above 1.
        least, most = min(low, -1.0 if signed else 0.0), max(high, 1.0)
        return {"value": value, "low": max(least, low - room), "high": min(most, high + room)}


def _places(groups: Sequence[str], seed: int) -> dict[str, int]:
    """A place for each group; those of many are shared at random, but the same each time."""
    every = sorted(set(groups))
    if len(every) > MOST_GROUPS:
        random.Random(seed).shuffle(every)
    return {group: place % MOST_GROUPS for place, group in enumerate(every)}


def _interval(value: float | None, drawn: Iterable[float | None]) -> dict[str, float | None]:
    found = sorted(one for one in drawn if one is not None)
    if not found:
        return {"value": value, "low": value, "high": value}
    outside = (1 - LEVEL) / 2
    return {"value": value, "low": _quantile(found, outside), "high": _quantile(found, 1 - outside)}


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Between two values in proportion."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def verdict(difference: Mapping[str, Any]) -> str:
    """ "better" or "worse" for b against a, where the interval leaves no doubt; else "" ."""
    low, high = difference["low"], difference["high"]
    if low is None or low <= 0 <= high:
        return ""
    better = (low > 0) == (metric_of(difference["metric"]).better == "high")
    return "better" if better else "worse"
