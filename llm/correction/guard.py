"""How far a model may go: what is no correction of a line any more is refused."""

from __future__ import annotations

import unicodedata

from rapidfuzz.distance import Levenshtein

# In a short line even one misread character is a large share.
FREE_EDITS = 2


def cleaned(text: str) -> str:
    """A model's line as one line in composed form."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def refusal(before: str, after: str, *, max_change: float) -> str:
    """Why the original stands; "" where the change may."""
    if not after:
        return "The line would be empty."
    edits = Levenshtein.distance(before, after)
    most = max(FREE_EDITS, int(max_change * len(before)))
    if edits > most:
        return f"{edits} characters would change; at most {most} may."
    return ""
