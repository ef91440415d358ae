"""What is said of a dataset before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from finetune.checks.columns import Columns
from finetune.checks.found import Found
from finetune.content.facts import DROPPED, SPLITS
from finetune.formats import Format
from finetune.reading import Source

if TYPE_CHECKING:
    from finetune.checks.whole import Division

BINS = 14
# 1, 2, 4 and 8 times a power of ten, in tokens.
WIDTHS = [size * 10**power for power in range(8) for size in (1, 2, 4, 8)]
# Kept in the version's row as JSON; see `report_of` for what it holds.
Report = dict[str, Any]


def report_of(
    *,
    source: Source,
    form: Format,
    columns: Columns,
    division: Division,
    found: Found,
    languages: Counter[str],
    read: int,
    tokenizer: str,
    grouped_by: str,
    seconds: float,
) -> Report:
    """Plain JSON. `rows` can be trained on, `rows_bad` can't: together they are `rows_read`."""
    import numpy as np

    tokens = np.frombuffer(columns.tokens, dtype=np.uint32)
    groups = np.frombuffer(columns.group, dtype=np.uint64)
    splits = division.splits
    kept = splits != DROPPED
    return {
        "format": form.name,
        "format_title": form.title,
        "kind": form.kind,
        "container": source.container,
        "notes": source.notes,
        "rows_read": read,
        "rows": int(kept.sum()),
        "rows_bad": found.bad_rows,
        "bad_lines": found.bad_lines,
        "errors": found.errors,
        "problems": found.as_json(),
        "tokens": _lengths(tokens[kept]) | {"tokenizer": tokenizer, "approximate": not tokenizer},
        "splits": {
            name: {
                "rows": int((splits == number).sum()),
                "groups": len(np.unique(groups[splits == number])),
                "tokens": int(tokens[splits == number].sum(dtype=np.int64)),
            }
            for name, number in SPLITS.items()
        },
        "split_given": bool(np.frombuffer(columns.given, dtype=np.uint8).any()),
        "grouped_by": grouped_by,
        "languages": {
            name: round(count / max(1, len(columns)), 4) for name, count in languages.most_common()
        },
        "seconds": round(seconds, 3),
    }


def _lengths(tokens: Any) -> dict[str, Any]:
    """Total, middle and ends, and a histogram."""
    import numpy as np

    if not len(tokens):
        return {"total": 0, "histogram": []}
    low, middle, high = (int(np.percentile(tokens, share)) for share in (5, 50, 95))
    bins = _histogram(tokens, int(np.percentile(tokens, 99)))
    return {
        "total": int(tokens.sum(dtype=np.int64)),
        "mean": round(float(tokens.mean()), 1),
        "p5": low,
        "median": middle,
        "p95": high,
        "max": int(tokens.max()),
        "histogram": bins,
    }


def _histogram(tokens: Any, usual: int) -> list[dict[str, int]]:
    """Rows in bins of one round width up to the `usual` length; the last holds all that is longer.

    Few long rows would else press all the others into one bar.
    """
    import numpy as np

    width = next(size for size in WIDTHS if size * BINS > usual)
    longest = int(tokens.max())
    edges = list(range(0, min(usual, longest) + width + 1, width))
    counts, _edges = np.histogram(np.minimum(tokens, edges[-1] - 1), bins=edges)
    bins = [
        {"from": begin, "to": end, "rows": int(count)}
        for begin, end, count in zip(edges, edges[1:], counts, strict=False)
    ]
    bins[-1]["to"] = max(bins[-1]["to"], longest + 1)
    filled = next(place for place, one in enumerate(bins) if one["rows"])
    return bins[filled:]


def trainable(report: Report, *, drop_bad_rows: bool) -> bool:
    """Whether a version may be trained on: without errors, or with its bad rows left out."""
    return (
        report["rows"] > 0
        and report["splits"]["train"]["rows"] > 0
        and (drop_bad_rows or not report["errors"])
    )
