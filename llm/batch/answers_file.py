"""The file that answers are appended to, whole lines only, so that any run can go on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llm.files import json_line


class AnswersFile:
    """Opened for appending. `done` are the ids that have an answer.

    A last line that was torn by a crash, and lines that say that a request failed, are taken out:
    these requests are made again.
    """

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self._path = path
        self.done: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        if anew:
            path.unlink(missing_ok=True)
        elif path.exists():
            self._repair()
        # Unbuffered: a line is in the file, or it isn't.
        self._file = path.open("ab", buffering=0)

    def add(self, record: dict[str, Any]) -> None:
        self._file.write(json_line(record))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def _repair(self) -> None:
        """Keeps the lines that are answers; the file is replaced at once, or not at all."""
        kept, whole = self._path.with_name(f"{self._path.name}.kept"), True
        with kept.open("wb") as target:
            for raw, custom_id in self._lines():
                if custom_id is None or custom_id in self.done:
                    whole = False
                    continue
                self.done.add(custom_id)
                target.write(raw)
        if whole:
            kept.unlink()
        else:
            kept.replace(self._path)

    def _lines(self) -> Iterator[tuple[bytes, str | None]]:
        with self._path.open("rb") as file:
            for raw in file:
                yield raw, _answered_id(raw)


def _answered_id(raw: bytes) -> str | None:
    """The custom_id of a whole line that holds an answer."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
        answered = line["response"]["status_code"] == 200
        return str(line["custom_id"]) if answered else None
    except (ValueError, KeyError, TypeError):
        return None
