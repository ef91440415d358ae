"""The way of a dataset in: rows read, converted, checked, stored, divided; all in bounded memory.

Free of the database, so that `manage.py dataset_validate` checks a file by the same code.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from finetune.checks import whole
from finetune.checks.columns import Columns
from finetune.checks.found import Found
from finetune.checks.tally import token_counter
from finetune.checks.whole import Division, Earlier
from finetune.content.facts import FACTS, PROBLEMS_FILE, pack_bytes, pack_numbers
from finetune.content.index import Index
from finetune.content.writer import ContentWriter
from finetune.formats import Format
from finetune.reading import Source
from finetune.report import Report, report_of
from finetune.row_intake import RowIntake, Tick
from finetune.splits import Shares

__all__ = ["Intake", "IntakeOptions", "Tick", "take_in"]


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """How a source is to be taken in. Empty: found out, or left alone.

    `group_by`: the column whose value keeps rows in one split; "row" for each by itself.
    """

    format: str = ""
    group_by: str = ""
    seed: int = 0
    shares: Shares = field(default_factory=Shares)
    max_tokens: int = 0
    tokenizer: str = ""


@dataclass(frozen=True, slots=True)
class Intake:
    """What came of it; `index` is None where nothing was to be stored."""

    format: Format
    report: Report
    index: Index | None
    pins: dict[int, int]


def take_in(
    source: Source,
    options: IntakeOptions,
    *,
    folder: Path | None = None,
    earlier: Earlier | None = None,
    tick: Tick = lambda _done, _total, _rows: None,
) -> Intake:
    """Reads the source to its end; rows and facts go to `folder`, if there is one.

    `tick` is told (bytes read, bytes in all, rows) now and then, and may raise to stop.
    Raises ApplicationError for a source that isn't of any format.
    """
    started = time.perf_counter()
    earlier = earlier or Earlier()
    found = Found(folder / PROBLEMS_FILE if folder else None)
    counter = token_counter(options.tokenizer)
    rows = RowIntake(
        source,
        found,
        counter,
        format=options.format,
        group_by=options.group_by,
        max_tokens=options.max_tokens,
        tick=tick,
    )
    index = _stored(rows, folder)
    division = _divided(rows, found, options, earlier)
    found.close()
    if folder:
        _facts_write(folder, rows.columns, division)
    report = report_of(
        source=source,
        form=rows.form,
        columns=rows.columns,
        division=division,
        found=found,
        languages=rows.languages,
        read=rows.read,
        tokenizer=counter.name,
        grouped_by=rows.grouped_by(),
        seconds=time.perf_counter() - started,
    )
    return Intake(rows.form, report, index, division.pins)


def _stored(rows: RowIntake, folder: Path | None) -> Index | None:
    """Runs through the rows, and keeps them where there is a folder for them."""
    if folder is None:
        rows.run(None)
        return None
    writer = ContentWriter(folder, rows.form.kind)
    try:
        rows.run(writer)
        return writer.finish()
    finally:
        writer.close()


def _divided(rows: RowIntake, found: Found, options: IntakeOptions, earlier: Earlier) -> Division:
    columns = rows.columns
    found.extend(whole.duplicates(columns))
    if rows.form.kind in ("chat", "completion", "ocr"):
        found.extend(whole.conflicts(columns))
    found.extend(whole.big_group(columns))
    division = whole.divide(columns, shares=options.shares, seed=options.seed, earlier=earlier)
    found.extend(whole.leaks(columns, division), rows=True)
    found.extend(whole.leaks_of_earlier(columns, division, earlier), rows=True)
    return division


def _facts_write(folder: Path, columns: Columns, division: Division) -> None:
    import numpy as np

    exact = np.frombuffer(columns.exact, dtype=np.uint64)
    order = np.argsort(exact, kind="stable")
    facts = {
        "splits": pack_bytes(division.splits.tobytes()),
        "lines": pack_numbers(columns.lines),
        "order": pack_numbers(array("I", order.astype(np.uint32).tobytes())),
        "hashes": pack_numbers(array("Q", exact[order].tobytes())),
        "prompts": pack_numbers(columns.prompt),
    }
    for name in FACTS:
        (folder / f"{name}.bin").write_bytes(facts[name])
