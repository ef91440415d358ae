"""An engine against a folder of truth: what it read of each page, how far off, in what time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlops.exceptions import EngineUnavailable
from ocr.batch import Batch, BatchOptions, FileDone, FileRun, PageDone
from ocr.models import PageResult
from ocr.outputs import Target
from ocr.scoring import Counts, UnicodeForm, count, pooled, rules
from ocr.truth import Truth


@dataclass(frozen=True, slots=True)
class Rules:
    """How two texts are compared; see `ocr.scoring`."""

    form: UnicodeForm = "NFC"
    casefold: bool = False

    def __str__(self) -> str:
        return rules(form=self.form, casefold=self.casefold)


@dataclass(frozen=True, slots=True)
class ScoredPage:
    """One text of the truth: of a page, or (`page` None) of a whole document.

    `results` are the pages read for it; `read` is None where none was, and `error` says why.
    """

    truth: Truth
    page: int | None
    results: tuple[PageResult, ...]
    read: str | None
    counts: Counts
    error: str

    @property
    def expected(self) -> str:
        return self.truth.pages[(self.page or 1) - 1]

    @property
    def title(self) -> str:
        return self.truth.name if self.page is None else f"{self.truth.name} p. {self.page}"

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)

    def used(self, name: str) -> str:
        """What read it: `name` is a field of PageResult, such as engine or model_version."""
        return ", ".join(sorted({getattr(result, name) for result in self.results} - {""}))


@dataclass(slots=True)
class Evaluation:
    """One engine over the whole folder. `seconds` is wall time, with the loading of its models.

    `unavailable` says why an engine could not be loaded; then there are no pages.
    """

    engine: str
    pages: list[ScoredPage] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0
    unavailable: str = ""

    @property
    def failed(self) -> int:
        return sum(page.read is None for page in self.pages)

    @property
    def pages_per_second(self) -> float:
        read = sum(len(page.results) for page in self.pages)
        return read / self.seconds if self.seconds else 0.0

    def used(self, name: str) -> str:
        return ", ".join(sorted({page.used(name) for page in self.pages} - {""}))

    def worst(self, limit: int) -> list[ScoredPage]:
        """The pages that have errors, the most of them in relation to the text first."""
        wrong = [page for page in self.pages if page.counts.errors]
        return sorted(wrong, key=lambda page: (-page.counts.cer, page.title))[:limit]

    def figures(self) -> dict[str, Any]:
        """What a program reads of it: the rates from 0 (as `ocr.scoring.Scores`), seconds."""
        if self.unavailable:
            return {"engine": self.engine, "error": self.unavailable}
        scores = asdict(pooled(page.counts for page in self.pages))
        return {
            "engine": self.engine,
            "engines_used": self.used("engine"),
            "model_version": self.used("model_version"),
            "languages_used": self.used("language"),
            "device": self.used("device"),
            "pages": scores.pop("pages"),
            "failed": self.failed,
            **{name: round(rate, 6) for name, rate in scores.items()},
            "seconds": round(self.seconds, 3),
            "engine_seconds": round(sum(page.seconds for page in self.pages), 3),
            "pages_per_second": round(self.pages_per_second, 3),
        }


def evaluate(
    truths: Sequence[Truth],
    options: BatchOptions,
    how: Rules,
    *,
    scratch: Path,
    tick: Callable[[FileRun], None],
) -> Evaluation:
    """Reads every document by `options.engine` and scores it; `tick` is told of each file.

    `scratch` is the folder that a batch wants for outputs, of which none are asked for here.
    """
    evaluation = Evaluation(options.engine, started=time.time())
    order = {truth.source: number for number, truth in enumerate(truths)}
    targets = [Target(truth.source, scratch / truth.name) for truth in truths]
    started = time.perf_counter()
    try:
        for event in Batch(targets, options).events():
            match event:
                case FileDone(run):
                    truth = truths[order[run.target.source]]
                    evaluation.pages.extend(_scored(truth, run, how))
                    tick(run)
                case PageDone():
                    pass
    except EngineUnavailable as error:
        return Evaluation(options.engine, unavailable=error.message)
    evaluation.seconds = time.perf_counter() - started
    evaluation.pages.sort(key=lambda page: (order[page.truth.source], page.page or 0))
    return evaluation


def _scored(truth: Truth, run: FileRun, how: Rules) -> list[ScoredPage]:
    results: dict[int, PageResult] = {}
    if run.job is not None:
        rows = run.job.results.select_related("page").defer("lines", "blocks")
        results = {result.page.number: result for result in rows.order_by("page__number")}
    if truth.whole:
        return [_scored_text(truth, None, tuple(results.values()), run.error, how)]
    return [
        _scored_text(truth, number, (results[number],) if number in results else (), run.error, how)
        for number in range(1, len(truth.pages) + 1)
    ]


def _scored_text(
    truth: Truth, page: int | None, results: tuple[PageResult, ...], fault: str, how: Rules
) -> ScoredPage:
    texts = [result.text for result in results if not result.error]
    read = "\n".join(texts) if texts else None
    errors = [result.error for result in results if result.error]
    expected = truth.pages[(page or 1) - 1]
    return ScoredPage(
        truth=truth,
        page=page,
        results=results,
        read=read,
        counts=count(expected, read, form=how.form, casefold=how.casefold),
        error=errors[0] if errors else fault if read is None else "",
    )
