"""The text of a folder's documents, read once: a second engine of extraction needs no OCR again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.extraction.base import PageText, page_of
from mlops.exceptions import ApplicationError
from ocr.batch import Batch, BatchOptions, FileDone, FileRun
from ocr.outputs import SUFFIXES, Target


@dataclass(frozen=True, slots=True)
class Paper:
    """A document and the true values that stand beside it, in NAME.json."""

    name: str
    source: Path
    truth: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PaperText:
    """What was read of a paper; `error` says why nothing was."""

    pages: tuple[PageText, ...]
    error: str = ""


def find_papers(folder: Path, *, limit: int | None = None) -> list[Paper]:
    """The folder's documents with a JSON object beside them, sorted. Raises ApplicationError."""
    if not folder.is_dir():
        raise ApplicationError(
            f"{folder} is not a folder. Give one that holds documents with their values beside "
            "them: scan.png and scan.json."
        )
    papers = []
    for source in sorted(folder.rglob("*")):
        beside = source.with_suffix(".json")
        if source.suffix.lower() in SUFFIXES and beside.is_file():
            papers.append(Paper(str(source.relative_to(folder)), source, _truth(beside)))
    if not papers:
        raise ApplicationError(
            f"No documents with values in {folder}. Put the values of each document beside it, "
            "under the same name: scan.png and scan.json."
        )
    return papers[:limit]


def _truth(path: Path) -> dict[str, Any]:
    try:
        truth = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ApplicationError(f"{path} is no JSON ({error}). Mend it, and try again.") from error
    if not isinstance(truth, dict):
        raise ApplicationError(f"{path} must hold a JSON object of fields and values.")
    return truth


def read_papers(
    papers: Sequence[Paper],
    options: BatchOptions,
    *,
    cache: Path | None,
    tick: Callable[[], object],
) -> dict[str, PaperText]:
    """What each paper says, by name; `tick` is called once a paper. Raises EngineUnavailable.

    With `cache`, a folder, what lies there is not read again: it is named after the content and
    how it was read.
    """
    found: dict[str, PaperText] = {}
    places: dict[Path, tuple[Paper, Path | None]] = {}
    for paper in papers:
        place = cache and cache / f"{_key(paper.source, options)}.json"
        if place and place.is_file():
            found[paper.name] = _pages(json.loads(place.read_text(encoding="utf-8")))
            tick()
        else:
            places[paper.source] = (paper, place)
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        targets = [
            Target(source, Path(scratch) / str(number)) for number, source in enumerate(places)
        ]
        for event in Batch(targets, options).events() if targets else ():
            if isinstance(event, FileDone):
                paper, place = places[event.run.target.source]
                rows = _rows(event.run)
                if place and not event.run.error:
                    place.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
                found[paper.name] = _pages(rows, event.run.error)
                tick()
    return found


def _rows(run: FileRun) -> list[dict[str, Any]]:
    if run.job is None:
        return []
    results = run.job.results.filter(error="").select_related("page").order_by("page__number")
    return [
        {"page": one.page.number, "lines": one.lines, "size": [one.width, one.height]}
        for one in results
    ]


def _pages(rows: list[dict[str, Any]], error: str = "") -> PaperText:
    return PaperText(
        tuple(
            page_of(row["page"], row["lines"], size=(row["size"][0], row["size"][1]))
            for row in rows
        ),
        error,
    )


def _key(source: Path, options: BatchOptions) -> str:
    digest = hashlib.sha256(source.read_bytes())
    digest.update(f"{options.engine} {options.language} {options.dpi}".encode())
    return digest.hexdigest()[:32]
