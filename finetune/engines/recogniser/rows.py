"""The rows of a run made ready: what can be learnt from, and which characters there are."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from finetune.engines.base import Notice, Teller, TrainingFailed, TrainSpec
from finetune.engines.configs import OcrRecognitionConfig
from finetune.engines.recogniser.characters import Alphabet, line_text, steps_needed
from finetune.engines.recogniser.lines import STEP, Lines, Row, lines_prepare, rows_of

PREPARED = "prepared"
# Characters named in a notice.
NAMED = 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """`validation` is None where no row was set aside. `left_out`: training rows."""

    train: Lines
    validation: Lines | None
    alphabet: Alphabet
    left_out: int


def rows_prepare(spec: TrainSpec, config: OcrRecognitionConfig, teller: Teller) -> Prepared:
    """Tells of what is left out. Raises TrainingFailed where nothing is left."""
    rows, tried = rows_of(spec.work, "train"), rows_of(spec.work, "validation")
    if config.characters:
        alphabet = Alphabet.of([line_text(config.characters), " "])
    else:
        alphabet = Alphabet.of(row.text for row in rows)
    given, rows = len(rows), _known(rows, alphabet, teller)
    _tell_unknown(tried, alphabet, teller)
    # Each process of a run writes its own: none then reads what another has half written.
    rank = os.environ.get("RANK", "0")
    sizes = {"height": config.height, "most": config.max_width}
    folder = spec.work / PREPARED
    train = _long_enough(rows, lines_prepare(rows, folder / f"train-{rank}", **sizes), teller)
    tried = [row for row in tried if row.text]
    validation = lines_prepare(tried, folder / f"validation-{rank}", **sizes) if tried else None
    return Prepared(train, validation, alphabet, given - len(train))


def _known(rows: list[Row], alphabet: Alphabet, teller: Teller) -> list[Row]:
    """Those whose every character is in the alphabet: half a line's text would be wrong."""
    known = set(alphabet.characters)
    kept = [row for row in rows if row.text and set(row.text) <= known]
    if missing := alphabet.missing(row.text for row in rows):
        lost = sum(1 for row in rows if not set(row.text) <= known)
        teller.tell(
            Notice(
                level="warn",
                message=f"{lost} of {len(rows)} training lines are left out: 'characters' lacks "
                f"{_named(missing)}.",
            )
        )
    if not kept:
        raise TrainingFailed(
            "No training line is spelled in 'characters' alone. Add what is missing to it, or "
            "leave it empty: then it is those of the training rows.",
            code="bad_rows",
        )
    return kept


def _tell_unknown(rows: list[Row], alphabet: Alphabet, teller: Teller) -> None:
    if missing := alphabet.missing(row.text for row in rows):
        teller.tell(
            Notice(
                level="warn",
                message=f"Validation lines hold characters that can't be learnt, as no training "
                f"line has them: {_named(missing)}. Each counts as an error.",
            )
        )


def _named(missing: Counter[str]) -> str:
    """“é” (3 lines), “ß” (1 line) …"""
    parts = [
        f"“{letter}” ({lines} line{'s'[: lines > 1]})"
        for letter, lines in missing.most_common(NAMED)
    ]
    return ", ".join(parts) + (" and others" if len(missing) > NAMED else "")


def _long_enough(rows: list[Row], lines: Lines, teller: Teller) -> Lines:
    """Without lines that are too narrow for their text."""
    fits = [
        width // STEP >= steps_needed(row.text)
        for row, width in zip(rows, lines.widths, strict=True)
    ]
    if all(fits):
        return lines
    teller.tell(
        Notice(
            level="warn",
            message=f"{len(fits) - sum(fits)} of {len(fits)} training lines are left out: their "
            "pictures are too narrow for their text. A larger 'height' or 'max_width' takes them "
            "in.",
        )
    )
    if not any(fits):
        raise TrainingFailed(
            "Every line's picture is too narrow for its text. Are texts and pictures of one line?",
            code="bad_rows",
        )
    return lines.only([number for number, fit in enumerate(fits) if fit])
