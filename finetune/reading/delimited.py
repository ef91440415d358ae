"""Rows of CSV and TSV, with a header or as label files of pictures without one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from finetune.formats.lines import is_image_name
from finetune.formats.recognise import format_of
from finetune.reading.base import BadLine, Record
from finetune.reading.byte_streams import LONGEST_LINE, Bytes

DELIMITERS = (",", "\t", ";", "|")
# Names of columns say what a file is; their values, whatever they are, are strings.
csv.field_size_limit(LONGEST_LINE)


def delimiter_of(head: str) -> tuple[str, list[str]] | None:
    """(delimiter, names of the columns) of a text that is a table; None for any other.

    A table is one whose header names a format's columns, or a label file: picture, tab, text.
    """
    first = head.partition("\n")[0].rstrip("\r")
    for delimiter in DELIMITERS:
        if delimiter not in first:
            continue
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
        if len(names) > 1 and format_of(_sample(names)) is not None:
            return delimiter, names
    name, tab, _text = first.partition("\t")
    if tab and is_image_name(name):
        return "\t", []
    return None


def _sample(names: list[str]) -> dict[str, Any]:
    """A row with these columns, whose pictures are files, to be recognised by."""
    return {name: "a.png" if name not in ("messages", "conversations") else "[]" for name in names}


class ByteReader(io.RawIOBase):
    """A stream as the io module wants it, after what was read of it already."""

    def __init__(self, stream: Bytes, head: bytes) -> None:
        self._stream, self._head = stream, head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._head[: len(buffer)] if self._head else self._stream.read(len(buffer))
        self._head = self._head[len(content) :]
        buffer[: len(content)] = content
        return len(content)


def table_rows(
    stream: Bytes, head: bytes, *, delimiter: str, names: list[str], encoding: str
) -> Iterator[Record]:
    """`names` is empty for label files, which have no header: the picture, a tab, its text."""
    text = io.TextIOWrapper(
        io.BufferedReader(ByteReader(stream, head), 2**20),
        encoding=encoding,
        errors="replace",
        newline="",
    )
    if not names:
        yield from _labels(text)
        return
    # In tab-separated files a quote is a quote: few writers escape there.
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(text, delimiter=delimiter, quoting=quoting)
    next(reader)
    line = reader.line_num + 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Record(line, BadLine("columns", f"{error}.", ""))
            line = reader.line_num + 1
            continue
        if cells is None:
            return
        if len(cells) == len(names):
            yield Record(line, dict(zip(names, cells, strict=True)))
        elif cells:
            wrong = f"The row has {len(cells)} columns, the header {len(names)}."
            yield Record(line, BadLine("columns", wrong, delimiter.join(cells)[:200]))
        line = reader.line_num + 1


def _labels(text: io.TextIOWrapper) -> Iterator[Record]:
    for number, line in enumerate(text, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        name, tab, words = line.partition("\t")
        if tab:
            yield Record(number, {"image": name, "text": words})
        else:
            wrong = "There is no tab between the picture's name and its text."
            yield Record(number, BadLine("columns", wrong, line[:200]))
