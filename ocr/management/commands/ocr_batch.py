"""`manage.py ocr_batch PATH... --out DIR`: text out of files, folders and globs."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from mlops import engines, flush
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, EngineUnavailable
from ocr import routing
from ocr.batch import Batch, BatchOptions, FileDone, FileRun, PageDone
from ocr.formats import ACCEPTED
from ocr.languages import UnknownLanguage, parse_languages
from ocr.models import OcrJob
from ocr.outputs import FORMATS, Target, find_targets


def formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [form for form in chosen if form not in FORMATS]
    if unknown or not chosen:
        raise ArgumentTypeError(
            f"unknown format {', '.join(unknown) or '(none)'}; choose from {', '.join(FORMATS)}"
        )
    return chosen


def confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text}: give a number from 0 to 1")
    return value


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: give a whole number from 1")
    return int(text)


@dataclass(slots=True)
class Totals:
    """What a batch came to; of each file no more than its job's id is kept."""

    files: int = 0
    pages: int = 0
    failed: int = 0
    skipped: int = 0
    jobs: list[UUID] = field(default_factory=list)

    def add(self, run: FileRun) -> None:
        self.files += 1
        self.failed += bool(run.error)
        self.skipped += run.skipped
        if run.job is not None:
            self.jobs.append(run.job.pk)


class Command(BaseCommand):
    help = (
        "Reads files, folders and globs into text, without web, broker or login. "
        "Exit status: 0 all went well, 1 some files failed, 2 bad arguments."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH")
        parser.add_argument("--out", required=True, type=Path, help="folder for the outputs")
        parser.add_argument("--formats", type=formats, default=("txt",), help=",".join(FORMATS))
        parser.add_argument("--engine", default="auto", help="auto, or an engine's alias")
        parser.add_argument("--language", default="auto", help="auto, or codes joined by +")
        parser.add_argument(
            "--min-confidence", type=confidence, default=settings.OCR_MIN_CONFIDENCE, metavar="X"
        )
        parser.add_argument("--dpi", type=count, default=settings.OCR_DPI, help="for PDF pages")
        parser.add_argument("--pages", default="", metavar="RANGE", help="such as 1-3,7")
        parser.add_argument(
            "--text-layer",
            choices=OcrJob.TextLayer.values,
            default=OcrJob.TextLayer.USE,
            help="a PDF's own text: use it where it is good, or ignore it",
        )
        parser.add_argument(
            "--no-rotate",
            dest="rotate",
            action="store_false",
            help="leave turned pages so",
        )
        parser.add_argument("--workers", type=count, default=None, help="processes (one a core)")
        parser.add_argument(
            "--force", action="store_true", help="read again what was read in the same way before"
        )
        parser.add_argument("--resume", action="store_true", help="go on where a run was cut off")
        parser.add_argument("--json", action="store_true", help="end with one line of figures")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.perf_counter()
        batch_options = self._options(options)
        targets = self._targets(options)
        ensure_schema()
        totals = Totals()
        try:
            with tqdm(
                total=len(targets), unit="file", disable=None, file=sys.stderr, dynamic_ncols=True
            ) as bar:
                for event in Batch(targets, batch_options).events():
                    match event:
                        case PageDone():
                            totals.pages += 1
                            bar.set_postfix(pages=totals.pages, refresh=False)
                            bar.update(0)
                        case FileDone(run):
                            totals.add(run)
                            bar.update(1)
                            if run.error:
                                bar.write(f"{run.target.source}: {run.error}", file=sys.stderr)
        except EngineUnavailable as error:
            raise CommandError(error.message, returncode=1) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. What was read is kept; --resume goes on from there.", returncode=130
            ) from None
        seconds = time.perf_counter() - started
        self._track(totals.jobs)
        self._report(totals, seconds, options)

    def _targets(self, options: dict[str, Any]) -> list[Target]:
        try:
            targets = find_targets(options["paths"], options["out"])
            options["out"].mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(str(error), returncode=2) from error
        if not targets:
            raise CommandError(
                f"No documents in {', '.join(options['paths'])}: looked for {ACCEPTED} files.",
                returncode=2,
            )
        return targets

    def _options(self, options: dict[str, Any]) -> BatchOptions:
        try:
            routing.choose(
                engines.specs_for("ocr", [options["engine"]]),
                engine=options["engine"],
                languages=parse_languages(options["language"]),
                default=settings.OCR_DEFAULT_ENGINE,
            )
        except (ApplicationError, UnknownLanguage) as error:
            raise CommandError(str(error), returncode=2) from error
        cores = len(os.sched_getaffinity(0))
        workers = options["workers"] or cores
        return BatchOptions(
            engine=options["engine"],
            language=options["language"],
            min_confidence=options["min_confidence"],
            dpi=options["dpi"],
            formats=options["formats"],
            workers=workers,
            threads=max(1, cores // workers),
            resume=options["resume"],
            force=options["force"],
            page_range=options["pages"],
            text_layer=options["text_layer"],
            rotate=options["rotate"],
        )

    def _track(self, jobs: list[UUID]) -> None:
        """MLflow last: it must neither slow the reading down nor fail it.

        What is not logged here, because this was stopped, any worker logs later.
        """
        with tqdm(
            total=len(jobs), desc="logging runs", unit="run", disable=None, file=sys.stderr
        ) as bar:
            for start in range(0, len(jobs), 20):
                flush.jobs_track(only=jobs[start : start + 20])
                bar.update(len(jobs[start : start + 20]))

    def _report(self, totals: Totals, seconds: float, options: dict[str, Any]) -> None:
        rate = totals.pages / seconds if seconds else 0.0
        self.stderr.write(
            f"{totals.files} files ({totals.skipped} already done, {totals.failed} failed), "
            f"{totals.pages} pages in {seconds:.1f} s, {rate:.2f} pages/s -> {options['out']}"
        )
        if options["json"]:
            figures = {
                "files": totals.files,
                "pages": totals.pages,
                "failed": totals.failed,
                "seconds": round(seconds, 3),
                "pages_per_second": round(rate, 3),
            }
            self.stdout.write(json.dumps(figures))
        self.stdout.flush()
        if totals.failed:
            sys.exit(1)
