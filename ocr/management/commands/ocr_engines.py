"""`manage.py ocr_engines [ALIAS...]`: what the OCR engines have on this machine, and a trial."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand, CommandError

from mlops import engines
from mlops.engines import EngineSpec
from ocr.engines.device import describe_machine
from ocr.selftest import Examination, examine

_HEADINGS = ("ENGINE", "STATE", "DEVICE", "MODEL", "READS", "LOAD", "PAGE", "CER")
_FIGURES = {"LOAD", "PAGE", "CER"}
_INDENT = "    "


class Command(BaseCommand):
    help = (
        "Loads each configured OCR engine, or those named, and reads a page with it. "
        "Exit status 1 if one that is installed fails."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("alias", nargs="*", help="engines by alias; all without any")
        parser.add_argument("--json", action="store_true", help="everything that is known, as JSON")
        parser.add_argument("--no-test", action="store_true", help="load them, but read no page")

    def handle(self, *args: Any, alias: list[str], **options: Any) -> None:
        chosen = _chosen(alias)
        examined = []
        for spec in chosen:
            self._progress("" if options["json"] else f"Trying {spec.alias} …")
            examined.append(examine(spec, read=not options["no_test"]))
        self._progress("")
        if options["json"]:
            report = {"machine": describe_machine(), "engines": [asdict(one) for one in examined]}
            self.stdout.write(json.dumps(report, ensure_ascii=False, indent=2))
        else:
            self._show(examined)
        if failed := [one.alias for one in examined if one.state == "failed"]:
            raise CommandError(f"Failed: {', '.join(failed)}.")

    def _progress(self, text: str) -> None:
        """One line that the next one takes the place of, where somebody is looking."""
        if sys.stderr.isatty():
            self.stderr.write(f"\r\033[K{text}", style_func=str, ending="")

    def _show(self, examined: list[Examination]) -> None:
        self.stdout.write(f"This machine: {describe_machine()}\n\n")
        tables = [list(_rows(one)) for one in examined]
        widths = [
            max(len(row[column]) for row in [_HEADINGS, *(row for rows in tables for row in rows)])
            for column in range(len(_HEADINGS))
        ]
        self.stdout.write(self.style.HTTP_INFO(_aligned(_HEADINGS, widths)))
        for one, rows in zip(examined, tables, strict=True):
            paint = {"ok": str, "failed": self.style.ERROR, "missing": self.style.WARNING}
            for row in rows:
                self.stdout.write(paint[one.state](_aligned(row, widths)))
            for note in _notes(one):
                self.stdout.write(f"{_INDENT}{note}")


def _chosen(aliases: list[str]) -> list[EngineSpec]:
    known = engines.specs_for("ocr", aliases)
    if unknown := [alias for alias in aliases if alias not in known]:
        raise CommandError(
            f"There is no engine {', '.join(unknown)}. Choose among: {', '.join(known)}."
        )
    return [known[alias] for alias in aliases or known]


def _rows(one: Examination) -> Iterator[tuple[str, ...]]:
    """A row an engine and, below it, one for each further page that it read."""
    load = f"{one.load_seconds:.2f} s" if one.device else ""
    trials = [(t.language, f"{t.seconds:.2f} s", f"{t.cer:.3f}") for t in one.trials]
    first, *others = trials or [("", "", "")]
    reads = _reads(one.languages)
    yield (one.alias, one.state, one.device, one.model_version, reads, load, *_cells(first))
    for other in others:
        yield ("", "", "", "", "", "", *_cells(other))


def _cells(trial: tuple[str, str, str]) -> tuple[str, str]:
    language, seconds, error = trial
    return f"{language} {seconds}".strip(), error


def _reads(languages: tuple[str, ...]) -> str:
    """Few languages by name, many by number."""
    if len(languages) <= 4:
        return " ".join(languages)
    return f"{len(languages)} languages"


def _notes(one: Examination) -> Iterator[str]:
    """What doesn't fit a column, shortened to the terminal: why it failed, where its files are."""
    yield from one.error.splitlines()
    room = shutil.get_terminal_size().columns - len(_INDENT)
    for path in one.models:
        yield path if len(path) <= room else f"…{path[1 - room :]}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if heading in _FIGURES else cell.ljust(width)
        for heading, cell, width in zip(_HEADINGS, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()
