"""The figures: what each is, and how it follows from sums over rows.

A row contributes to `counts`; a figure is the quotient of two of their sums, so that it can be
worked out for any choice of rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlops.exceptions import ApplicationError

Counts = Mapping[str, float]
# Figures of single fields of an answer in JSON: field.<name>.exact and field.<name>.fuzzy.
FIELD = "field."


@dataclass(frozen=True, slots=True)
class Metric:
    """`top` / `bottom` of the summed counts; perplexity is the exponential of that."""

    name: str
    title: str
    top: str
    bottom: str
    better: Literal["high", "low"] = "high"
    # A share is shown in percent.
    share: bool = True
    exponential: bool = False

    def value(self, top: float, bottom: float) -> float | None:
        """None where no row says anything."""
        if not bottom:
            return None
        quotient = top / bottom
        return math.exp(min(quotient, 700.0)) if self.exponential else quotient


METRICS = {
    metric.name: metric
    for metric in (
        Metric("exact", "Exact match", "exact", "rows"),
        Metric("strict", "Exact match, to the letter", "strict", "rows"),
        Metric("calls_exact", "Tool calls, exact", "calls_exact", "call_rows"),
        Metric("calls_name", "Tool calls, right function", "calls_name", "calls"),
        Metric(
            "calls_arguments", "Tool calls, right arguments", "calls_arguments", "call_arguments"
        ),
        Metric("fields_exact", "Fields, exact", "fields_exact", "fields"),
        Metric("fields_fuzzy", "Fields, alike", "fields_fuzzy", "fields"),
        Metric("cer", "CER", "errors", "characters", better="low"),
        Metric("wer", "WER", "word_errors", "words", better="low"),
        Metric("preferred", "Right answer preferred", "preferred", "pairs"),
        Metric("margin", "Margin, nats", "margin", "pairs", share=False),
        Metric("token_accuracy", "Token accuracy", "right", "tokens"),
        Metric("loss", "Loss, nats a token", "loss", "tokens", better="low", share=False),
        Metric(
            "perplexity",
            "Perplexity",
            "loss",
            "tokens",
            better="low",
            share=False,
            exponential=True,
        ),
    )
}
_LIKELY = ("token_accuracy", "loss", "perplexity")
_CALLS = ("calls_exact", "calls_name", "calls_arguments")
# By the kind of the rows; those of fields only where answers are JSON, those of calls only where
# tools are called.
OF_KIND: dict[str, tuple[str, ...]] = {
    "chat": ("exact", "strict", *_CALLS, "fields_exact", "fields_fuzzy", *_LIKELY),
    "completion": ("exact", "strict", "fields_exact", "fields_fuzzy", "cer", "wer", *_LIKELY),
    "text": _LIKELY,
    "preference": ("preferred", "margin", *_LIKELY),
    "ocr": ("cer", "wer", "exact", "strict"),
}
# Those that need what a model writes; the others follow from how likely it holds the truth.
WRITTEN = frozenset({"exact", "strict", *_CALLS, "fields_exact", "fields_fuzzy", "cer", "wer"})


def metric_of(name: str) -> Metric:
    """Also of a field. Raises KeyError for a name that is none."""
    if name.startswith(FIELD):
        field, _, what = name.removeprefix(FIELD).rpartition(".")
        return Metric(
            name, f"{field}, {'exact' if what == 'exact' else 'alike'}", name, _rows(name)
        )
    return METRICS[name]


def _rows(name: str) -> str:
    return f"{name.rpartition('.')[0]}.rows"


def metrics_check(kind: str, names: Sequence[str]) -> list[str]:
    """The named figures, or all that rows of the kind have. Raises ApplicationError."""
    known = OF_KIND[kind]
    for name in names:
        if name not in known:
            raise ApplicationError(
                f"metrics: of rows like these there are {', '.join(known)}; not '{name}'.",
                code="unknown_metric",
                param="metrics",
            )
    return [name for name in known if name in names] if names else list(known)


def field_metrics(counted: Mapping[str, float]) -> list[str]:
    """The figures of single fields that these counts have."""
    return sorted(name for name in counted if name.startswith(FIELD) and not name.endswith(".rows"))


def shown(name: str, value: float | None) -> str:
    """93.1 % or 0.482"""
    if value is None:
        return "n/a"
    if metric_of(name).share:
        return f"{value:.1%}".replace("%", " %")
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def difference_shown(name: str, value: float | None) -> str:
    """+3.2 points or -0.114"""
    if value is None:
        return "n/a"
    return f"{100 * value:+.1f} points" if metric_of(name).share else f"{value:+,.3f}"
