"""`manage.py llm_evaluate_extraction DIR`: how many of a folder's values an engine finds."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from llm.extraction.base import Extraction, ExtractionEngine, Task
from llm.extraction.rules import RulesEngine
from llm.extraction.scoring import FieldFigures, FieldScore, figures, macro, micro, score
from llm.extraction_readings import Paper, PaperText, find_papers, read_papers
from llm.extraction_rows import RULES, template_named
from llm.extraction_run import model_engine
from llm.selectors import model_resolve
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, EngineUnavailable, JobFailed
from mlops.tracking import RunRecord, TrackingUnavailable, tracker
from ocr.batch import BatchOptions
from ocr.evaluation_report import aligned

EXPERIMENT = "extraction-evaluate"
# Requests to a model at once: it batches them.
AT_ONCE = 8


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: give a whole number from 1")
    return int(text)


@dataclass(slots=True)
class Result:
    """One engine over all papers; `errors` says by name why a paper gave no values."""

    engine: str
    scores: list[FieldScore] = field(default_factory=list)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0

    def rows(self) -> list[FieldFigures]:
        """A row a field, then micro (all values alike) and macro (all fields alike)."""
        fields = figures(self.scores)
        return [*fields, micro(self.scores), macro(fields)]


class Command(BaseCommand):
    help = (
        "Reads a folder's documents by OCR, takes values out of them, and compares these with "
        "the truth beside them (scan.png and scan.json). Exact: the same date, the same sum, the "
        "same letters and digits; fuzzy: at least 0.9 alike. "
        "Exit status: 0 all was read, 1 some documents failed, 2 bad arguments."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR")
        parser.add_argument("--template", default="receipt", help="a saved template's name")
        parser.add_argument("--engine", default=RULES, help="rules, or a language model's name")
        parser.add_argument("--limit", type=count, metavar="N", help="the first N documents alone")
        parser.add_argument(
            "--cache", type=Path, metavar="DIR", help="keeps what was read, for the next engine"
        )
        parser.add_argument("--ocr-engine", default="auto", help="auto, or an engine's alias")
        parser.add_argument("--language", default="auto", help="auto, or codes joined by +")
        parser.add_argument("--workers", type=count, help="processes for OCR (one a core)")
        parser.add_argument(
            "--misses", action="store_true", help="list every value that is not exact"
        )
        parser.add_argument("--out", type=Path, metavar="FILE", help="report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        try:
            papers = find_papers(options["folder"], limit=options["limit"])
            template = template_named(options["template"], user=None)
            task = Task(template.schema, template.instructions, template.examples)
            engine = self._engine(options["engine"])
            texts = self._read(papers, options)
        except (ApplicationError, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        except EngineUnavailable as error:
            raise CommandError(error.message, returncode=1) from error
        result = self._extract(papers, texts, engine, task)
        self._report(result, options)
        self._track(result, options)
        if options["out"]:
            options["out"].write_text(
                json.dumps(self._body(result, options), ensure_ascii=False, indent=1) + "\n",
                encoding="utf-8",
            )
        if result.errors:
            sys.exit(1)

    def _engine(self, name: str) -> ExtractionEngine:
        return RulesEngine() if name == RULES else model_engine(model_resolve(name))

    def _read(self, papers: list[Paper], options: dict[str, Any]) -> dict[str, PaperText]:
        cores = len(os.sched_getaffinity(0))
        workers = options["workers"] or cores
        batch = BatchOptions(
            engine=options["ocr_engine"],
            language=options["language"],
            min_confidence=settings.OCR_MIN_CONFIDENCE,
            dpi=settings.OCR_DPI,
            formats=(),
            workers=workers,
            threads=max(1, cores // workers),
            resume=False,
            track=False,
        )
        with _bar(papers, "OCR") as bar:
            return read_papers(papers, batch, cache=options["cache"], tick=bar.update)

    def _extract(
        self,
        papers: list[Paper],
        texts: dict[str, PaperText],
        engine: ExtractionEngine,
        task: Task,
    ) -> Result:
        result = Result(engine.name)
        started = time.perf_counter()

        def extract(paper: Paper) -> Extraction | str:
            text = texts[paper.name]
            if text.error or not any(page.lines for page in text.pages):
                return text.error or "No text was found."
            try:
                return engine.extract(text.pages, task)
            except (JobFailed, ApplicationError) as error:
                return error.message

        with _bar(papers, engine.name) as bar, ThreadPoolExecutor(self._threads(engine)) as pool:
            for paper, found in zip(papers, pool.map(extract, papers), strict=True):
                bar.update()
                if isinstance(found, str):
                    result.errors[paper.name] = found
                values = {} if isinstance(found, str) else found.values
                result.values[paper.name] = values
                result.tokens += 0 if isinstance(found, str) else found.completion_tokens
                result.scores += score(paper.name, paper.truth, values)
        result.seconds = time.perf_counter() - started
        return result

    def _threads(self, engine: ExtractionEngine) -> int:
        return 1 if isinstance(engine, RulesEngine) else AT_ONCE

    def _report(self, result: Result, options: dict[str, Any]) -> None:
        rows = [["field", "values", "exact", "fuzzy", "similarity", "missing", "wrong"]]
        rows += [
            [
                *(one.field, str(one.documents)),
                *(f"{rate:.3f}" for rate in (one.exact, one.fuzzy, one.similarity)),
                *(str(one.missing), str(one.wrong)),
            ]
            for one in result.rows()
        ]
        self.stdout.write(
            f"{len(result.values)} documents, engine {result.engine}, {result.seconds:.2f} s "
            "beside OCR. Texts are compared by letters and digits, without case.\n"
        )
        for line in aligned(rows, left={0}):
            self.stdout.write(line)
        if options["misses"]:
            missed = [
                [one.document, one.field, str(one.truth), str(one.value), f"{one.similarity:.2f}"]
                for one in result.scores
                if not one.exact
            ]
            for line in aligned(
                [["document", "field", "truth", "value", ""], *missed], left={0, 1, 2, 3}
            ):
                self.stdout.write(line)
        for name, error in result.errors.items():
            self.stderr.write(f"{name}: {error}")

    def _body(self, result: Result, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "folder": options["folder"].resolve().name,
            "template": options["template"],
            "engine": result.engine,
            "seconds": round(result.seconds, 3),
            "figures": [_rounded(asdict(one)) for one in result.rows()],
            "documents": [
                {"name": name, "values": values, "error": result.errors.get(name)}
                for name, values in result.values.items()
            ],
            "scores": [_rounded(asdict(one)) for one in result.scores],
        }

    def _track(self, result: Result, options: dict[str, Any]) -> None:
        """A tracking server that is away costs a warning, not the figures."""
        finished = time.time()
        metrics = {
            f"{one.field}_{name}": getattr(one, name)
            for one in result.rows()
            for name in ("exact", "fuzzy", "similarity", "missing", "wrong")
        }
        record = RunRecord(
            name=f"{options['folder'].resolve().name} {result.engine}"[:200],
            experiment=EXPERIMENT,
            succeeded=not result.errors,
            started=finished - result.seconds,
            finished=finished,
            params={
                "data": options["folder"].resolve().name,
                "template": options["template"],
                "engine": result.engine,
                "ocr_engine": options["ocr_engine"],
            },
            metrics={
                **metrics,
                "documents": len(result.values),
                "seconds": round(result.seconds, 3),
                "completion_tokens": result.tokens,
            },
            artifacts={"report.json": json.dumps(self._body(result, options), ensure_ascii=False)},
        )
        try:
            tracker().log(record)
        except TrackingUnavailable as error:
            self.stderr.write(f"Not logged to MLflow: {error}")


def _bar(papers: Iterable[Paper], what: str) -> tqdm:
    return tqdm(
        total=len(list(papers)),
        desc=what,
        unit="file",
        disable=None,
        file=sys.stderr,
        dynamic_ncols=True,
    )


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()
    }
