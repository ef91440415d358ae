"""A dataset read row by row: converted, looked at, stored; a few numbers of each are remembered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from finetune.checks.columns import Columns
from finetune.checks.encoding import text_troubles
from finetune.checks.found import Found
from finetune.checks.problems import Problem
from finetune.checks.tally import TokenCounter, language_of
from finetune.content.writer import ContentWriter
from finetune.formats import Format, Row, Troubles, recognise, texts_of, view_of
from finetune.formats.recognise import SAMPLE, format_of
from finetune.reading import BadLine, Record, Source, split_named
from mlops.exceptions import ApplicationError

EXCERPT = 200
# Rows whose tokens are counted in one call.
BATCH = 256
# What people call the column that says what a row belongs to.
GROUP_COLUMNS = (
    *("group", "group_id", "conversation_id", "session_id", "thread_id"),
    *("document_id", "document", "page_id"),
)
# Made once: json.dumps would make one for each row.
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))

# Told (bytes read, bytes in all, rows) now and then; may raise to stop.
Tick = Callable[[int, int, int], None]


class RowIntake:
    """One pass over a source. `form` is known once it has begun; `read` counts what came.

    `group_by`: the column whose value keeps rows in one split, "row" for each by itself, "" for
    the first of GROUP_COLUMNS that is there.
    """

    def __init__(
        self,
        source: Source,
        found: Found,
        counter: TokenCounter,
        *,
        format: str,
        group_by: str,
        max_tokens: int,
        tick: Tick,
    ) -> None:
        self.columns = Columns()
        self.languages: Counter[str] = Counter()
        self.read = 0
        self._source, self._found, self._counter = source, found, counter
        self._group_by, self._max_tokens, self._tick = group_by, max_tokens, tick
        self._texts: list[str] = []
        self._records = source.records()
        self._head = list(islice(self._records, SAMPLE))
        self.form = self._recognised(format)

    def run(self, writer: ContentWriter | None) -> None:
        """Reads all there is. Raises ApplicationError where no row of it can be used."""
        self._rows(chain(self._head, self._records), self.form, writer)
        if not len(self.columns):
            raise ApplicationError(self._nothing(), code="no_rows", param="file")

    def grouped_by(self) -> str:
        """As people read it."""
        if self._group_by:
            return self._group_by
        return "place in the source" if self.columns.named else "prompt"

    def _recognised(self, wanted: str) -> Format:
        values = [record.value for record in self._head if isinstance(record.value, dict)]
        broken = [one for one in self._head if isinstance(one.value, BadLine)]
        if not values and broken and not wanted:
            message = broken[0].value.message
            raise ApplicationError(
                f"None of the first {len(self._head)} lines is a row. Line {broken[0].line}: "
                f"{message}",
                code="no_rows",
                param="file",
            )
        form = recognise(values, wanted=wanted).format
        if not self._group_by:
            self._group_by = next(
                (name for name in GROUP_COLUMNS if any(name in value for value in values)), ""
            )
        return form

    def _rows(self, records: Iterator[Record], form: Format, writer: ContentWriter | None) -> None:
        troubles: Troubles = []
        for record in records:
            self.read += 1
            if not self.read % BATCH:
                self._tick(*self._source.progress(), self.read)
            value = record.value
            if isinstance(value, BadLine):
                problem = Problem(record.line, "", value.code, value.message, value.excerpt)
                self._found.add(problem)
                self._found.bad_row(record.line)
                continue
            troubles.clear()
            row = form.convert(value, troubles)
            if row is None:
                self._bad(record, value, form, troubles)
                continue
            self._keep(record, value, row, form, writer)
        self._count_tokens()
        self._tick(*self._source.progress(), self.read)

    def _bad(self, record: Record, value: dict[str, Any], form: Format, troubles: Troubles) -> None:
        self._found.bad_row(record.line)
        shown = json.dumps(value, ensure_ascii=False, default=_shown)[:EXCERPT]
        other = format_of(value)
        if other is not None and other is not form and not form.matches(value):
            message = f"The row looks like {other.title}; the others are {form.title}."
            self._found.add(Problem(record.line, "", "other_format", message, shown))
            return
        for trouble in troubles:
            self._found.add(
                Problem(record.line, trouble.field, trouble.code, trouble.message, shown)
            )

    def _keep(
        self,
        record: Record,
        value: dict[str, Any],
        row: Row,
        form: Format,
        writer: ContentWriter | None,
    ) -> None:
        view = view_of(form.kind, row)
        group = self._group(record, value)
        if group:
            row["group"] = group
        if "meta" in value:
            row["meta"] = value["meta"]
        try:
            stored = ENCODER.encode(row).encode()
        except UnicodeEncodeError:
            message = "The row holds half a character (a lone surrogate)."
            self._found.add(Problem(record.line, "", "not_utf8", message))
            self._found.bad_row(record.line)
            return
        if writer:
            writer.add(stored)
        split = record.split or split_named(value.get("split"))
        self.columns.add(line=record.line, stored=stored, view=view, group=group, split=split)
        text = view.answer if form.kind == "ocr" else f"{view.prompt}\n{view.answer}"
        self.languages[language_of(text)] += 1
        if not (text.isascii() and text.replace("\n", "").isprintable()):
            self._look_at_text(record.line, form.kind, row)
        self._texts.append(text)
        if len(self._texts) >= BATCH:
            self._count_tokens()

    def _group(self, record: Record, value: dict[str, Any]) -> str:
        if self._group_by == "row":
            return f"row {record.line}"
        told = value.get(self._group_by) if self._group_by else None
        return str(told) if isinstance(told, str | int) and told != "" else record.group

    def _look_at_text(self, line: int, kind: str, row: Row) -> None:
        said = set()
        for field_name, text in texts_of(kind, row):
            for trouble in text_troubles(field_name, text):
                if trouble.code not in said:
                    said.add(trouble.code)
                    problem = Problem(line, trouble.field, trouble.code, trouble.message)
                    self._found.add(problem)

    def _count_tokens(self) -> None:
        counts = self._counter.count(self._texts)
        most = self._max_tokens
        if most:
            first = len(self.columns.tokens)
            for place, count in enumerate(counts, first):
                if count > most:
                    message = f"The row has {count:,} tokens; the limit is {most:,}."
                    self._found.add(Problem(self.columns.lines[place], "", "too_long", message))
        self.columns.tokens.extend(counts)
        self._texts.clear()

    def _nothing(self) -> str:
        problems = self._found.as_json()
        first = problems[0]["examples"][0] if problems else None
        why = f" Line {first['line']}: {first['message']}" if first else ""
        return f"No row of {self.read:,} could be read as {self.form.title}.{why}"


def _shown(value: Any) -> str:
    """What JSON has no form for, in an excerpt."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
