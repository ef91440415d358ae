"""What an evaluation leaves: a table, rows a page, and the worst pages to look at."""

from __future__ import annotations

import csv
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from typing import Any

from django.template.loader import render_to_string
from rapidfuzz.distance import Levenshtein

from ocr.evaluation import Evaluation, Rules, ScoredPage
from ocr.formats import BadDocument, Limits
from ocr.pages import BadPage, open_pages, page_jpeg
from ocr.scoring import normalised

PICTURE_DPI = 110
PICTURE_SIDE = 1400
# Of two runs of text, the share of characters in common from which each letter is aligned.
ALIKE = 0.4


def table(evaluations: Sequence[Evaluation]) -> list[str]:
    """A line an engine, side by side in one width."""
    heads = ["engine", "pages", "failed", "CER", "CER macro", "WER", "WER macro", "word F1"]
    rows = [[*heads, "seconds", "pages/s", "model"]]
    for evaluation in evaluations:
        figures = evaluation.figures()
        if evaluation.unavailable:
            rows.append([evaluation.engine, *["-"] * 9, evaluation.unavailable])
            continue
        rates = ("cer_micro", "cer_macro", "wer_micro", "wer_macro", "word_f1_micro")
        rows.append(
            [
                evaluation.engine,
                str(figures["pages"]),
                str(figures["failed"]),
                *(f"{figures[name]:.4f}" for name in rates),
                f"{figures['seconds']:.1f}",
                f"{figures['pages_per_second']:.2f}",
                figures["model_version"],
            ]
        )
    return aligned(rows, left={0, 10})


def worst_table(evaluation: Evaluation, limit: int) -> list[str]:
    rows = [["CER", "word F1", "characters", "page", ""]]
    for page in evaluation.worst(limit):
        counts = page.counts
        rates = [f"{counts.cer:.4f}", f"{counts.word_f1:.4f}", f"{counts.characters}"]
        rows.append([*rates, page.title, page.error.partition("\n")[0]])
    return aligned(rows, left={3, 4}) if len(rows) > 1 else []


def aligned(rows: list[list[str]], *, left: set[int]) -> list[str]:
    """Columns as wide as their longest cell; those in `left` stand left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


# -- rows a page ----------------------------------------------------------------------------


def page_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """One row for each engine and text of the truth; rates from 0."""
    return [_page_row(evaluation, page) for evaluation in evaluations for page in evaluation.pages]


def _page_row(evaluation: Evaluation, page: ScoredPage) -> dict[str, Any]:
    counts = page.counts
    return {
        "engine": evaluation.engine,
        "document": page.truth.name,
        "page": page.page,
        "cer": round(counts.cer, 6),
        "wer": round(counts.wer, 6),
        "word_f1": round(counts.word_f1, 6),
        "errors": counts.errors,
        "characters": counts.characters,
        "word_errors": counts.word_errors,
        "words": counts.words,
        "words_read": counts.words_read,
        "words_matched": counts.words_matched,
        "seconds": round(page.seconds, 3),
        "engine_used": page.used("engine"),
        "language_used": page.used("language"),
        "model_version": page.used("model_version"),
        "error": page.error,
    }


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    out = StringIO()
    writer = csv.DictWriter(out, rows[0].keys() if rows else ["engine"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


# -- the worst pages ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that both have (""), that was missed ("del") or invented ("ins")."""

    kind: str
    text: str


def worst_html(evaluations: Sequence[Evaluation], how: Rules, *, limit: int, limits: Limits) -> str:
    """One page that needs nothing beside it: each bad page's picture and what each engine made of
    it. A page is as bad as its worst reading."""
    worst: dict[str, ScoredPage] = {}
    for page in sorted(
        (page for evaluation in evaluations for page in evaluation.worst(limit)),
        key=lambda page: -page.counts.cer,
    ):
        worst.setdefault(page.title, page)
    readings = {
        (evaluation.engine, page.title): page
        for evaluation in evaluations
        for page in evaluation.pages
    }
    sections = [
        {
            "title": page.title,
            "picture": _picture(page, limits),
            "readings": [
                _reading(evaluation.engine, readings[evaluation.engine, page.title], how)
                for evaluation in evaluations
                if (evaluation.engine, page.title) in readings
            ],
        }
        for page in list(worst.values())[:limit]
    ]
    return render_to_string("ocr/evaluation.html", {"sections": sections, "rules": str(how)})


def _reading(engine: str, page: ScoredPage, how: Rules) -> dict[str, Any]:
    return {
        "engine": engine,
        "counts": page.counts,
        "error": page.error,
        "pieces": differences(page.expected, page.read or "", how),
    }


def differences(expected: str, read: str, how: Rules) -> list[Piece]:
    """The two texts as one: words aligned first, then the characters of those that differ.

    Line breaks are the truth's; those of what was read do not count.
    """
    truth = [word for line in expected.splitlines() for word in _words(line, how)]
    found = normalised(read, form=how.form, casefold=how.casefold).split()
    changes = Levenshtein.opcodes([word.rstrip() for word in truth], found)
    pieces: list[Piece] = []
    for same, together in groupby(changes, key=lambda change: change.tag == "equal"):
        run = list(together)
        ours = "".join(truth[run[0].src_start : run[-1].src_end])
        theirs = " ".join(found[run[0].dest_start : run[-1].dest_end])
        if same:
            pieces.append(Piece("", ours))
        else:
            bare = ours.rstrip()
            pieces += _characters(bare, theirs)
            pieces.append(Piece("", ours[len(bare) :] if bare else " "))
    return [piece for piece in pieces if piece.text]


def _words(line: str, how: Rules) -> list[str]:
    """Each word with the white space after it: a blank, or a newline at the line's end."""
    words = normalised(line, form=how.form, casefold=how.casefold).split()
    return [f"{word} " for word in words[:-1]] + [f"{word}\n" for word in words[-1:]]


def _characters(ours: str, theirs: str) -> list[Piece]:
    # Two texts that have little in common would come out as a salad of single letters.
    if Levenshtein.normalized_similarity(ours, theirs) < ALIKE:
        return [Piece("del", ours), Piece("ins", theirs)]
    pieces = []
    # A newline stands where the other text has a blank.
    for change in Levenshtein.opcodes(re.sub(r"\s", " ", ours), theirs):
        if change.tag == "equal":
            pieces.append(Piece("", ours[change.src_start : change.src_end]))
            continue
        pieces.append(Piece("del", ours[change.src_start : change.src_end]))
        pieces.append(Piece("ins", theirs[change.dest_start : change.dest_end]))
    return pieces


def _picture(page: ScoredPage, limits: Limits) -> str:
    """The page, of a whole document the first, as a data URL; empty where it can't be drawn."""
    try:
        with open_pages(page.truth.source, dpi=PICTURE_DPI, limits=limits) as source:
            jpeg = page_jpeg(source.render((page.page or 1) - 1), max_side=PICTURE_SIDE, quality=70)
    except (BadDocument, BadPage):
        return ""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
