"""`manage.py dataset_validate FILE`: what is wrong in a dataset, before it is trained on."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from finetune.formats import FORMATS
from finetune.intake import IntakeOptions, Tick, take_in
from finetune.reading import HubSource, Source, is_hub_name, open_source
from finetune.report import Report, trainable
from finetune.report_text import report_lines
from finetune.splits import Shares
from mlops.exceptions import ApplicationError, JobFailed


class Command(BaseCommand):
    help = (
        "Checks a file, zip or folder of training data, without a database: a table of problems "
        "by kind with examples, and what the data is made of. "
        "Exit status: 0 it can be trained on, 1 it can't as it is, 2 bad arguments."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_intake_arguments(parser)
        parser.add_argument("--json", action="store_true", help="the whole report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = self._report(options)
        ready = trainable(report, drop_bad_rows=options["drop_bad_rows"])
        if options["json"]:
            self.stdout.write(json.dumps(report, ensure_ascii=False))
        else:
            for line in report_lines(report, ready=ready):
                self.stdout.write(line)
        self.stdout.flush()
        if not ready:
            sys.exit(1)

    def _report(self, options: dict[str, Any]) -> Report:
        try:
            with progress_bar() as bar:
                source = source_of(options["file"])
                return take_in(source, intake_options(options), tick=shown_on(bar)).report
        except (ApplicationError, JobFailed, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None


def add_intake_arguments(parser: ArgumentParser) -> None:
    """What this command and dataset_import ask alike."""
    parser.add_argument(
        "file", metavar="FILE", help="a file, zip or folder; or hub:org/name, with a network"
    )
    parser.add_argument("--format", choices=FORMATS, default="", help="default: by the content")
    parser.add_argument(
        "--group-by", default="", metavar="COLUMN", help="keeps rows in one split; 'row': none"
    )
    parser.add_argument("--validation", type=float, default=0.05, metavar="SHARE")
    parser.add_argument("--test", type=float, default=0.05, metavar="SHARE")
    parser.add_argument("--max-tokens", type=int, default=0, metavar="N", help="flags longer rows")
    parser.add_argument(
        "--tokenizer", default="", metavar="FOLDER", help="counts tokens; default: an estimate"
    )
    parser.add_argument(
        "--drop-bad-rows", action="store_true", help="rows with errors are left out, not a reason"
    )


def intake_options(options: dict[str, Any], *, seed: int = 0) -> IntakeOptions:
    """Raises ApplicationError for shares that leave nothing to train on."""
    return IntakeOptions(
        format=options["format"],
        group_by=options["group_by"],
        seed=seed,
        shares=Shares(options["validation"], options["test"]).checked(),
        max_tokens=options["max_tokens"],
        tokenizer=options["tokenizer"],
    )


def source_of(name: str) -> Source:
    return HubSource(name) if is_hub_name(name) else open_source(Path(name))


def progress_bar() -> tqdm:
    """In bytes read; shown on a terminal only."""
    return tqdm(
        unit="B", unit_scale=True, disable=None, file=sys.stderr, dynamic_ncols=True, leave=False
    )


def shown_on(bar: tqdm) -> Tick:
    def tick(done: int, total: int, rows: int) -> None:
        bar.total = total or None
        bar.set_postfix(rows=f"{rows:,}", refresh=False)
        bar.update(done - bar.n)

    return tick
