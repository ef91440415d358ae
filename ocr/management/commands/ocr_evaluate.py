"""`manage.py ocr_evaluate DIR`: how far each engine is from the truth in a folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any, get_args

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from mlops import engines
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError
from mlops.tracking import RunRecord, TrackingUnavailable, tracker
from ocr import evaluation_report as report
from ocr import routing
from ocr.batch import BatchOptions
from ocr.evaluation import Evaluation, Rules, evaluate
from ocr.languages import UnknownLanguage, parse_languages
from ocr.models import OcrJob
from ocr.runner import limits
from ocr.scoring import UnicodeForm
from ocr.truth import Truth, find_truth

EXPERIMENT = "ocr-evaluate"


def names(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not chosen:
        raise ArgumentTypeError("give at least one engine")
    return chosen


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: give a whole number from 1")
    return int(text)


class Command(BaseCommand):
    help = (
        "Reads a folder's documents by each engine and scores them against the texts beside them: "
        "CER and WER, micro (by length) and macro (by page), and word F1, which is blind to the "
        "order. A page that could not be read counts as CER 1. "
        "Exit status: 0 all was read, 1 some pages or an engine failed, 2 bad arguments."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="documents with texts beside")
        parser.add_argument(
            "--engine",
            type=names,
            default=("auto",),
            metavar="A[,B]",
            help="auto, or engines' aliases; one alias a model in OCR_ENGINES compares models",
        )
        parser.add_argument("--language", default="auto", help="auto, or codes joined by +")
        parser.add_argument(
            "--truth-suffix", default=".txt", metavar="X", help="what a text's name ends with"
        )
        parser.add_argument("--case-fold", action="store_true", help="upper and lower are one")
        parser.add_argument(
            "--unicode-form", choices=get_args(UnicodeForm), default="NFC", help="of both texts"
        )
        parser.add_argument(
            "--text-layer",
            choices=OcrJob.TextLayer.values,
            default=OcrJob.TextLayer.IGNORE,
            help="a PDF's own text: ignore it, since an engine is judged here, or use it",
        )
        parser.add_argument("--dpi", type=count, default=settings.OCR_DPI, help="for PDF pages")
        parser.add_argument("--workers", type=count, default=None, help="processes (one a core)")
        parser.add_argument("--worst", type=count, default=10, metavar="N", help="pages to list")
        parser.add_argument(
            "--out", type=Path, help="folder for per_page.csv, evaluation.json and worst.html"
        )
        parser.add_argument("--json", action="store_true", help="end with one line of figures")

    def handle(self, *args: Any, **options: Any) -> None:
        how = Rules(options["unicode_form"], options["case_fold"])
        truths = self._truths(options)
        ensure_schema()
        evaluations = []
        for engine in options["engine"]:
            evaluations.append(self._evaluate(engine, truths, how, options))
            self._track(evaluations[-1], how, options)
        self._report(evaluations, how, options)
        if options["out"]:
            self._write(evaluations, how, options)
        if options["json"]:
            self.stdout.write(json.dumps(self._figures(evaluations, how, options)))
        self.stdout.flush()
        if any(evaluation.unavailable or evaluation.failed for evaluation in evaluations):
            sys.exit(1)

    def _truths(self, options: dict[str, Any]) -> list[Truth]:
        """What there is to read, once everything asked for is known to make sense."""
        try:
            for engine in options["engine"]:
                routing.choose(
                    engines.specs_for("ocr", [engine]),
                    engine=engine,
                    languages=parse_languages(options["language"]),
                    default=settings.OCR_DEFAULT_ENGINE,
                )
            truths, without = find_truth(
                options["folder"], suffix=options["truth_suffix"], limits=limits()
            )
            if options["out"]:
                options["out"].mkdir(parents=True, exist_ok=True)
        except (ApplicationError, UnknownLanguage, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        if without:
            self.stderr.write(
                f"Left out, since no text stands beside them: {', '.join(without[:5])}"
                f"{f' and {len(without) - 5} more' if len(without) > 5 else ''}."
            )
        return truths

    def _evaluate(
        self, engine: str, truths: list[Truth], how: Rules, options: dict[str, Any]
    ) -> Evaluation:
        cores = len(os.sched_getaffinity(0))
        workers = options["workers"] or cores
        batch = BatchOptions(
            engine=engine,
            language=options["language"],
            min_confidence=settings.OCR_MIN_CONFIDENCE,
            dpi=options["dpi"],
            formats=(),
            workers=workers,
            threads=max(1, cores // workers),
            resume=False,
            text_layer=options["text_layer"],
            track=False,
            force=True,
        )
        with (
            tempfile.TemporaryDirectory() as scratch,
            tqdm(
                total=len(truths),
                desc=engine,
                unit="file",
                disable=None,
                file=sys.stderr,
                dynamic_ncols=True,
            ) as bar,
        ):
            try:
                return evaluate(
                    truths, batch, how, scratch=Path(scratch), tick=lambda _run: bar.update(1)
                )
            except KeyboardInterrupt:
                raise CommandError("Stopped.", returncode=130) from None

    def _track(self, evaluation: Evaluation, how: Rules, options: dict[str, Any]) -> None:
        """One run an engine. A tracking server that is away costs a warning, not the figures."""
        figures = evaluation.figures()
        record = RunRecord(
            name=f"{options['folder'].resolve().name} {evaluation.engine}"[:200],
            experiment=EXPERIMENT,
            succeeded=not (evaluation.unavailable or evaluation.failed),
            started=evaluation.started or None,
            finished=time.time(),
            params={
                "data": options["folder"].resolve().name,
                "language": options["language"],
                "normalisation": str(how),
                "text_layer": options["text_layer"],
                "dpi": options["dpi"],
                **{name: value for name, value in figures.items() if isinstance(value, str)},
            },
            metrics={name: value for name, value in figures.items() if not isinstance(value, str)},
            artifacts={"per_page.csv": report.to_csv(report.page_rows([evaluation]))},
        )
        try:
            tracker().log(record)
        except TrackingUnavailable as error:
            self.stderr.write(f"Not logged to MLflow: {error}")

    def _report(self, evaluations: list[Evaluation], how: Rules, options: dict[str, Any]) -> None:
        """To stdout, or with --json, which owns that, to stderr."""
        out = self.stderr if options["json"] else self.stdout
        out.write(f"Compared under: {how}. A page that could not be read counts as CER 1.\n")
        for line in report.table(evaluations):
            out.write(line)
        for evaluation in evaluations:
            worst = report.worst_table(evaluation, options["worst"])
            if worst:
                out.write(f"\nWorst pages of {evaluation.engine}:")
                for line in worst:
                    out.write(f"  {line}")

    def _write(self, evaluations: list[Evaluation], how: Rules, options: dict[str, Any]) -> None:
        rows = report.page_rows(evaluations)
        body = {**self._figures(evaluations, how, options), "per_page": rows}
        html = report.worst_html(evaluations, how, limit=options["worst"], limits=limits())
        for name, text in (
            ("per_page.csv", report.to_csv(rows)),
            ("evaluation.json", json.dumps(body, ensure_ascii=False, indent=1) + "\n"),
            ("worst.html", html),
        ):
            (options["out"] / name).write_text(text, encoding="utf-8")
        self.stderr.write(f"\nPer page: {options['out'] / 'per_page.csv'}")
        self.stderr.write(f"To look at: {options['out'] / 'worst.html'}")

    def _figures(
        self, evaluations: list[Evaluation], how: Rules, options: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "data": str(options["folder"]),
            "rules": str(how),
            "language": options["language"],
            "engines": [evaluation.figures() for evaluation in evaluations],
        }
