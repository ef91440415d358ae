"""A dataset's report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import Any

from finetune.report import Report

BAR = 30
EXAMPLES = 3


def report_lines(report: Report, *, ready: bool) -> Iterator[str]:
    """What it is, what is wrong with it, and whether it can be trained on."""
    tokens = report["tokens"]
    counted = "tokens, estimated" if tokens["approximate"] else f"tokens by {tokens['tokenizer']}"
    yield (
        f"{report['format_title']} ({report['container']}): {report['rows_read']:,} rows read, "
        f"{report['rows']:,} good, {report['rows_bad']:,} bad; {tokens['total']:,} {counted}"
    )
    yield from report["notes"]
    yield from _splits(report)
    yield from _lengths(tokens)
    yield "Languages: " + ", ".join(
        f"{name} {share:.1%}" for name, share in report["languages"].items()
    )
    yield ""
    yield from _problems(report["problems"])
    yield _verdict(report, ready)


def _splits(report: Report) -> Iterator[str]:
    parts = [
        f"{name} {one['rows']:,} rows in {one['groups']:,} groups"
        for name, one in report["splits"].items()
    ]
    how = "as the source gives them" if report["split_given"] else f"by {report['grouped_by']}"
    yield f"Splits ({how}): {'; '.join(parts)}"


def _lengths(tokens: dict[str, Any]) -> Iterator[str]:
    if not tokens["histogram"]:
        return
    yield (
        f"Length in tokens: median {tokens['median']:,}, 95 % up to {tokens['p95']:,}, "
        f"longest {tokens['max']:,}"
    )
    most = max(one["rows"] for one in tokens["histogram"])
    for one in tokens["histogram"]:
        bar = "#" * round(BAR * one["rows"] / most)
        yield f"  {one['from']:>7,} to {one['to'] - 1:<9,} {one['rows']:>10,} {bar}"


def _problems(problems: list[dict[str, Any]]) -> Iterator[str]:
    if not problems:
        yield "No problems found."
        return
    yield f"{'':8} {'rows':>9}  problem"
    for problem in problems:
        yield f"{problem['severity']:8} {problem['count']:>9,}  {problem['title']}"
        for example in problem["examples"][:EXAMPLES]:
            where = f"line {example['line']}" if example["line"] else "whole"
            field = f", {example['field']}" if example["field"] else ""
            yield f"{'':20} {where}{field}: {shorten(example['message'], 110)}"
        yield f"{'':20} To mend it: {problem['mend']}"


def _verdict(report: Report, ready: bool) -> str:
    if ready and report["errors"]:
        return f"\nIt can be trained on without its {report['rows_bad']:,} bad rows."
    if ready:
        return "\nIt can be trained on."
    if report["errors"] and report["splits"]["train"]["rows"]:
        return (
            f"\nIt can't be trained on as it is: {report['rows_bad']:,} rows have errors. Mend "
            "them, or leave them out (--drop-bad-rows)."
        )
    return "\nIt can't be trained on: no row is left for training."
