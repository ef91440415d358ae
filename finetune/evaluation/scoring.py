"""One row: what was answered against what should have been, as counts to sum over rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from finetune.evaluation.calls import Call, call_counts, made_calls, same_calls, wanted_calls
from finetune.evaluation.metrics import FIELD, METRICS, field_metrics, metric_of
from finetune.formats.base import Row
from finetune.formats.kinds import spoken
from llm.extraction import scoring as fields
from ocr import scoring

Counts = dict[str, float]


def truth_of(kind: str, row: Row) -> str:
    """What should be answered: of a conversation its last turn, of a preference what was chosen."""
    if kind == "chat":
        return spoken(row["messages"][-1])
    if kind == "preference":
        return "\n".join(spoken(message) for message in row["chosen"])
    return row["completion"] if kind == "completion" else row["text"]


def counts_of(kind: str, row: Row, answered: Mapping[str, Any], *, written: bool) -> Counts:
    """`answered` is a row of `finetune.engines.evaluate`'s.

    `written`: whether there should be an output; where one is missing it is wrong in all.
    """
    counts: Counts = {}
    if "loss" in answered:
        counts |= {name: float(answered[name]) for name in ("loss", "tokens", "right")}
        if "rejected_loss" in answered:
            margin = answered["rejected_loss"] - answered["loss"]
            counts |= {"margin": margin, "preferred": float(margin > 0), "pairs": 1.0}
    if written:
        counts |= _written(kind, row, answered)
    return counts


def scores_of(counts: Counts) -> dict[str, float]:
    """The figures of one row, by name."""
    found: dict[str, float] = {}
    for name in (*METRICS, *field_metrics(counts)):
        metric = metric_of(name)
        value = metric.value(counts.get(metric.top, 0.0), counts.get(metric.bottom, 0.0))
        if value is not None and metric.top in counts:
            found[name] = round(value, 6)
    return found


def _written(kind: str, row: Row, answered: Mapping[str, Any]) -> Counts:
    output = None if answered.get("error") else str(answered.get("output", ""))
    truth, said = truth_of(kind, row), output or ""
    wanted, made = _calls(kind, row, answered)
    if wanted:
        # Calls are compared as such, and as text what is said beside them.
        truth, said = row["messages"][-1]["content"], str(answered.get("text", said))
    same = scoring.normalised(said, form="NFKC") == scoring.normalised(truth, form="NFKC")
    exact = same and (not wanted or same_calls(wanted, made))
    strict = said.strip() == truth.strip()
    strict = strict and (not wanted or same_calls(wanted, made, ordered=True))
    counts: Counts = {
        "rows": 1.0,
        "exact": float(output is not None and exact),
        "strict": float(output is not None and strict),
    }
    if wanted or (made and not exact):
        counts |= call_counts(wanted, made)
    if kind in ("completion", "ocr"):
        counted = scoring.count(truth, output)
        counts |= {
            "errors": float(counted.errors),
            "characters": float(counted.characters),
            "word_errors": float(counted.word_errors),
            "words": float(counted.words),
        }
    fields_wanted = _object(truth) if kind in ("chat", "completion") else None
    if fields_wanted:
        counts |= _fields(fields_wanted, _object(said) or {})
    return counts


def _calls(kind: str, row: Row, answered: Mapping[str, Any]) -> tuple[list[Call], list[Call]]:
    """Those that should be made, and those that were."""
    if kind != "chat":
        return [], []
    made = [] if answered.get("error") else made_calls(answered)
    return wanted_calls(row["messages"][-1]), made


def _fields(wanted: dict[str, Any], values: dict[str, Any]) -> Counts:
    counts: Counts = {"fields": 0.0, "fields_exact": 0.0, "fields_fuzzy": 0.0}
    for one in fields.score("", wanted, values):
        exact, fuzzy = float(one.exact), float(one.fuzzy)
        counts["fields"] += 1
        counts["fields_exact"] += exact
        counts["fields_fuzzy"] += fuzzy
        place = f"{FIELD}{one.field}"
        counts |= {f"{place}.rows": 1.0, f"{place}.exact": exact, f"{place}.fuzzy": fuzzy}
    return counts


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that the text is, or holds between a fence of backticks."""
    text = text.strip()
    if not text.endswith(("}", "```")):
        return None
    start, end = text.find("{"), text.rfind("}")
    if start < 0:
        return None
    try:
        found = json.loads(text[start : end + 1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
