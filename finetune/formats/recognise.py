"""Which format a file is of: told by the names and types in its first rows, not by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.formats.base import Format, Given
from finetune.formats.chat import ALPACA, MESSAGES, SHAREGPT
from finetune.formats.lines import OCR_LINES
from finetune.formats.pairs import COMPLETION, PREFERENCE, PREFERRED, TURNS
from finetune.formats.plain import TEXT
from mlops.exceptions import ApplicationError

# Where a row fits several, the first of them is meant.
FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        *(PREFERRED, PREFERENCE, MESSAGES, SHAREGPT, ALPACA),
        *(TURNS, COMPLETION, OCR_LINES, TEXT),
    )
}
# So many rows are looked at.
SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Recognised:
    format: Format
    share: float  # of the rows looked at, those of this format


def format_of(given: Given) -> Format | None:
    return next((form for form in FORMATS.values() if form.matches(given)), None)


def recognise(rows: Sequence[Given], *, wanted: str = "") -> Recognised:
    """The format of most of the rows, or `wanted`. Raises ApplicationError for none known."""
    if wanted:
        if wanted not in FORMATS:
            raise ApplicationError(
                f"There is no format '{wanted}'; choose one of: {', '.join(FORMATS)}.",
                code="unknown_format",
                param="format",
            )
        return Recognised(FORMATS[wanted], 1.0)
    counted = Counter(form.name for row in rows if (form := format_of(row)) is not None)
    if not counted:
        names = list(dict.fromkeys(name for row in rows for name in row))[:20]
        found = f"The rows have the fields {', '.join(map(repr, names))}" if names else "No row"
        known = "; ".join(f"{form.title}: {form.example}" for form in FORMATS.values())
        raise ApplicationError(
            f"{found}, which {'are' if names else 'is'} of no format known here. Name the format, "
            f"or bring the rows into one of these. {known}",
            code="unknown_format",
            param="file",
        )
    name, count = counted.most_common(1)[0]
    return Recognised(FORMATS[name], count / len(rows))
