"""Which pages are meant: `1-3,7`, `5-`, `-2`."""

from __future__ import annotations

import re

from mlops.exceptions import ApplicationError

_PART = re.compile(r"\s*(?:([0-9]{1,9})|([0-9]{0,9})\s*-\s*([0-9]{0,9}))\s*")


def parse_page_range(text: str, pages: int) -> tuple[int, ...]:
    """The numbers (from 1) of the pages meant, each once, ascending; all of `pages` for "".

    Raises ApplicationError for what isn't a range, or names a page that isn't there.
    """
    if not text.strip():
        return tuple(range(1, pages + 1))
    wanted: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or part.strip() in ("", "-"):
            raise _refused(f"'{text}' is not a range of pages. Write for example 1-3,7 or 5-.")
        single, first, last = match.groups()
        low = int(single or first or 1)
        high = int(single or last or pages)
        if not 1 <= low <= high <= pages:
            raise _refused(f"'{part.strip()}' is not within the document's pages, 1 to {pages}.")
        wanted.update(range(low, high + 1))
    return tuple(sorted(wanted))


def _refused(message: str) -> ApplicationError:
    return ApplicationError(message, code="page_range", param="page_range")
