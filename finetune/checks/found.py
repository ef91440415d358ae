"""Gathers problems: every one is counted and written down, the first of each kind are kept."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finetune.checks.problems import PROBLEMS, Problem

EXAMPLES = 10
# Numbers of bad lines that the report itself holds; the file has them all.
LINES_KEPT = 1000


class Found:
    """Writes to `path`, one JSON object a line, gzipped; without a path it only counts."""

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Problem]] = defaultdict(list)
        self.bad_lines: list[int] = []
        self.bad_rows = 0
        self._file = gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) if path else None

    def add(self, problem: Problem) -> None:
        self.counts[problem.code] += 1
        kept = self.examples[problem.code]
        if len(kept) < EXAMPLES:
            kept.append(problem)
        if self._file is not None:
            line = json.dumps(problem.as_json(), ensure_ascii=False)
            self._file.write(line.encode("utf-8", "replace") + b"\n")

    def extend(self, problems: Iterable[Problem], *, rows: bool = False) -> None:
        """`rows`: each of them is one more row that can't be used."""
        for problem in problems:
            self.add(problem)
            if rows:
                self.bad_row(problem.line)

    def bad_row(self, line: int) -> None:
        self.bad_rows += 1
        if len(self.bad_lines) < LINES_KEPT:
            self.bad_lines.append(line)

    @property
    def errors(self) -> int:
        return sum(n for code, n in self.counts.items() if PROBLEMS[code].severity == "error")

    def as_json(self) -> list[dict[str, Any]]:
        """By kind: errors first, the most frequent first."""
        kinds = sorted(
            self.counts.items(), key=lambda one: (PROBLEMS[one[0]].severity, -one[1], one[0])
        )
        return [
            {
                "code": code,
                "severity": PROBLEMS[code].severity,
                "title": PROBLEMS[code].title,
                "mend": PROBLEMS[code].mend,
                "count": count,
                "examples": [
                    {
                        "line": problem.line,
                        "field": problem.field,
                        "message": problem.message,
                        "excerpt": problem.excerpt,
                    }
                    for problem in self.examples[code]
                ],
            }
            for code, count in kinds
        ]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
