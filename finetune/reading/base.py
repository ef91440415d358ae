"""What a source of rows gives, whatever it is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol


class BadLine(NamedTuple):
    """A line that no row could be read from; `code` as in `checks.problems.PROBLEMS`."""

    code: str
    message: str
    excerpt: str


class Record(NamedTuple):
    """A row as it stands in the source. `line` is counted from 1; `split` is "" if none is given.

    `group` names what the row belongs to where the source itself knows.
    """

    line: int
    value: dict[str, Any] | BadLine
    split: str = ""
    group: str = ""


class Source(Protocol):
    """Rows to read once, in their order.

    `container` says what it is ("jsonl.gz"); `notes` what people should know of how it was read.
    """

    container: str
    notes: list[str]

    def records(self) -> Iterator[Record]: ...

    def progress(self) -> tuple[int, int]:
        """(bytes read, bytes in all); 0 where nobody knows how much there is."""
        ...


# (name below the label file's folder) -> the picture, or None where there is none.
Pictures = Callable[[str], bytes | None]

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("test", "testing", "heldout", "held_out"), "test"),
}


def split_named(name: Any) -> str:
    """train, validation or test, by what people call them; "" for another word."""
    return SPLIT_NAMES.get(name.strip().lower(), "") if isinstance(name, str) else ""
