"""What can only be seen over all rows: duplicates, contradictions, leaks between splits.

By sorting hashes: 8 bytes a row and column, whatever the rows' size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetune.checks.columns import Columns
from finetune.checks.problems import Problem
from finetune.content.facts import DROPPED, TEST
from finetune.splits import Pins, Shares, split_groups, split_names

if TYPE_CHECKING:
    import numpy as np

# A group with a larger share of the rows makes the splits' sizes a matter of luck.
BIG_GROUP = 0.3
LEAST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a version before this one leaves to keep to: its pins and what its test asks."""

    number: int = 0
    pins: Pins = field(default_factory=dict)
    test_prompts: frozenset[int] = frozenset()


@dataclass(slots=True)
class Division:
    """The split of each row (`content.facts`), and the groups that stand where they were put."""

    splits: np.ndarray
    pins: dict[int, int]


def divide(columns: Columns, *, shares: Shares, seed: int, earlier: Earlier) -> Division:
    """Given splits are kept; rows without one are divided by group."""
    import numpy as np

    groups = np.frombuffer(columns.group, dtype=np.uint64)
    given = np.frombuffer(columns.given, dtype=np.uint8)
    splits, pins = given.copy(), dict(earlier.pins)
    free = given == 0
    if free.all():
        splits, pins = split_groups(groups, shares=shares, seed=seed, pins=pins)
    elif free.any():
        # Where the source has splits of its own, what is outside of them is for training.
        splits[free] = 1
    return Division(splits, pins)


def duplicates(columns: Columns) -> Iterator[Problem]:
    """Every row that says what an earlier one says."""
    import numpy as np

    whole = np.frombuffer(columns.whole, dtype=np.uint64)
    order = np.argsort(whole, kind="stable")
    ordered = whole[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    begins = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
    firsts = begins[np.searchsorted(begins, again, side="right") - 1]
    for place, first in sorted(zip(order[again].tolist(), order[firsts].tolist(), strict=True)):
        message = f"The row says the same as line {columns.lines[first]}."
        yield Problem(columns.lines[place], "", "duplicate", message)


def conflicts(columns: Columns) -> Iterator[Problem]:
    """Rows whose prompt has another answer elsewhere."""
    import numpy as np

    prompt = np.frombuffer(columns.prompt, dtype=np.uint64)
    whole = np.frombuffer(columns.whole, dtype=np.uint64)
    order = np.lexsort((whole, prompt))
    same_prompt = prompt[order][1:] == prompt[order][:-1]
    other_answer = whole[order][1:] != whole[order][:-1]
    asked = np.unique(prompt[order][1:][same_prompt & other_answer])
    if not len(asked):
        return
    first: dict[int, int] = {}
    for place in np.flatnonzero(np.isin(prompt, asked)).tolist():
        key = columns.prompt[place]
        other = first.setdefault(key, place)
        if other != place and columns.whole[other] != columns.whole[place]:
            message = f"Line {columns.lines[other]} answers the same prompt otherwise."
            yield Problem(columns.lines[place], "", "conflict", message)


def leaks(columns: Columns, division: Division) -> Iterator[Problem]:
    """Rows whose prompt, or named group, stands in a later split too; they are dropped.

    The test keeps its rows before validation does, and validation before training.
    """
    import numpy as np

    columns_at = [("prompt", columns.prompt)] + [("group", columns.group)] * columns.named
    names = split_names()
    for what, hashes in columns_at:
        keys = np.frombuffer(hashes, dtype=np.uint64)
        splits = division.splits
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
        highest = np.maximum.reduceat(splits[order], begins)
        lengths = np.diff(np.append(begins, len(ordered)))
        of_row = np.empty_like(splits)
        of_row[order] = np.repeat(highest, lengths)
        leaked = np.flatnonzero((splits < of_row) & (splits != DROPPED))
        for place in leaked.tolist():
            message = (
                f"The row is for {names[int(splits[place])]}, and its {what} stands in "
                f"{names[int(of_row[place])]} too."
            )
            yield Problem(columns.lines[place], "", "leak", message)
        splits[leaked] = DROPPED


def leaks_of_earlier(columns: Columns, division: Division, earlier: Earlier) -> Iterator[Problem]:
    """Rows outside of the test that an earlier version tests by; they are dropped."""
    import numpy as np

    if not earlier.test_prompts:
        return
    tested = np.fromiter(earlier.test_prompts, dtype=np.uint64, count=len(earlier.test_prompts))
    prompt = np.frombuffer(columns.prompt, dtype=np.uint64)
    splits, names = division.splits, split_names()
    found = np.isin(prompt, tested) & (splits != TEST) & (splits != DROPPED)
    places = np.flatnonzero(found)
    for place in places.tolist():
        message = (
            f"The row is for {names[int(splits[place])]}, but version {earlier.number} tests by it."
        )
        yield Problem(columns.lines[place], "", "leak_earlier", message)
    splits[places] = DROPPED


def big_group(columns: Columns) -> Iterator[Problem]:
    import numpy as np

    if len(columns) < LEAST_ROWS:
        return
    _names, counts = np.unique(np.frombuffer(columns.group, dtype=np.uint64), return_counts=True)
    share = int(counts.max()) / len(columns)
    if share > BIG_GROUP and len(counts) > 1:
        yield Problem(
            0, "", "big_group", f"One of {len(counts)} groups has {share:.0%} of the rows."
        )
