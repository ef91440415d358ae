"""Where each word of a line begins and ends, from where its characters do."""

from __future__ import annotations

import re
from collections.abc import Sequence


def word_spans(text: str, places: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The span of each word of `text` (split at white space), as `Line.spans` wants them.

    `places`: for each character of `text` where it begins and ends along the line, in any unit
    from 0 to 1 times its length. Empty if they are not as many as the characters.
    """
    if len(places) != len(text):
        return ()
    return tuple(
        (
            min(max(places[word.start()][0], 0.0), 1.0),
            min(max(places[word.end() - 1][1], 0.0), 1.0),
        )
        for word in re.finditer(r"\S+", text)
    )
