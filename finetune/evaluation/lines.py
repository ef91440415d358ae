"""The result of an evaluation for a terminal: a column a side, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune.evaluation.metrics import difference_shown, field_metrics, metric_of, shown
from finetune.evaluation.results import verdict
from finetune.models import Evaluation
from ocr.evaluation_report import aligned


def result_lines(job: Evaluation) -> Iterator[str]:
    """Figures of all sides, then how far each is from the first."""
    result = job.result
    yield (
        f"{job.dataset_label}, {job.split}: {result['rows']:,} of {result['rows_in_split']:,} "
        f"rows; 95 % intervals by {result['samples']:,} draws of {result['groups']:,} groups"
    )
    yield ""
    names = [*job.metrics, *_fields(result)]
    table = [["", *(side["label"] for side in result["sides"])]]
    for name in names:
        cells = [_cell(name, side["figures"].get(name)) for side in result["sides"]]
        if any(cells):
            table.append([metric_of(name).title, *cells])
    yield from aligned(table, left={0})
    for side in result["sides"]:
        if side["errors"]:
            yield f"{side['label']}: {side['errors']:,} rows failed and count as wrong."
    if result["differences"]:
        yield ""
        yield from aligned(_differences(result, job.metrics), left={0, 1, 4})


def _fields(result: dict[str, Any]) -> list[str]:
    """Fields of JSON, by exact match."""
    found: dict[str, float] = {}
    for side in result["sides"]:
        found |= dict.fromkeys(field_metrics(side["figures"]), 0.0)
    return [name for name in sorted(found) if name.endswith(".exact")]


def _cell(name: str, figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    low, high = shown(name, figure["low"]), shown(name, figure["high"])
    return f"{shown(name, figure['value'])} ({low} to {high})"


def _differences(result: dict[str, Any], metrics: list[str]) -> list[list[str]]:
    sides = result["sides"]
    return [
        [
            f"{sides[one['b']]['label']} against {sides[one['a']]['label']}",
            metric_of(one["metric"]).title,
            difference_shown(one["metric"], one["value"]),
            f"({difference_shown(one['metric'], one['low'])} to "
            f"{difference_shown(one['metric'], one['high'])})",
            verdict(one) or "not told apart",
        ]
        for one in result["differences"]
        if one["metric"] in metrics
    ]
