"""The report of a dry run for a terminal: what is learned stands between marks."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import indent
from typing import Any

from django.template.defaultfilters import filesizeformat

from finetune.dry_report import MEMORY
from mlops import display

OPEN, CLOSE = "[[", "]]"
# Of an example so much is shown.
LONGEST = 1500


def dry_report_lines(report: dict[str, Any]) -> Iterator[str]:
    """`report` as of `finetune.engines.dry_run`."""
    for number, example in enumerate(report["examples"], 1):
        cut = ", cut off" if example["cut_off"] else ""
        yield (
            f"Example {number}: {example['tokens']} tokens, {example['learned']} of them learned "
            f"({OPEN}like this{CLOSE}){cut}"
        )
        yield indent(marked(example["runs"])[:LONGEST], "  | ", lambda _line: True)
        yield ""
    lengths = report["lengths"]
    yield (
        f"Rows     {report['rows']:,} to train on, {report['validation_rows']:,} to validate by; "
        f"{report['truncated']:.1%} cut off, {report['dropped']:,} left out"
    )
    yield (
        f"Lengths  half up to {lengths['p50']:,} tokens, 99 % up to {lengths['p99']:,}, the "
        f"longest {lengths['most']:,}"
    )
    yield f"Tokens   {report['tokens']:,} a pass, {report['tokens_in_all']:,} in all"
    yield f"Steps    {report['steps']:,}, {report['epoch_steps']:,} a pass"
    yield _time(report["time"])
    yield _memory(report["memory"])
    disk = report["disk"]
    yield (
        f"Disk     {filesizeformat(disk['needed'])} needed of {filesizeformat(disk['free'])} free, "
        f"{filesizeformat(disk['checkpoint'])} a checkpoint"
    )
    yield "Settings " + ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    for warning in report["warnings"]:
        yield f"Warning: {warning}"


def marked(runs: list[dict[str, Any]]) -> str:
    """The text with what carries loss between marks."""
    return "".join(f"{OPEN}{run['text']}{CLOSE}" if run["loss"] else run["text"] for run in runs)


def _time(time: dict[str, Any]) -> str:
    how = f"measured over {time['measured_steps']}" if time["measured_steps"] else "reckoned"
    each = f"{time['seconds_a_step']:.3g} s a step"
    return f"Time     about {display.duration(time['seconds'])}, {each}, {how}"


def _memory(memory: dict[str, Any]) -> str:
    parts = ", ".join(
        f"{title.lower()} {filesizeformat(memory[name])}"
        for name, title in MEMORY.items()
        if memory.get(name)
    )
    needed = max(memory["total"], memory["measured"] or 0)
    return (
        f"Memory   {filesizeformat(needed)} of {memory['kind']} "
        f"({filesizeformat(memory['available'])} free): {parts}"
    )
