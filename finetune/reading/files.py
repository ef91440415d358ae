"""One file of rows: which container it is, told by its content, and the rows in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from finetune.reading.base import BadLine, Record
from finetune.reading.byte_streams import Bytes, lines, open_bytes
from finetune.reading.delimited import delimiter_of, table_rows
from finetune.reading.json_rows import PEEK, JsonValues, excerpt, json_lines, parsed, wrapped
from mlops.exceptions import ApplicationError

PARQUET = b"PAR1"
HEAD = 256 * 1024
JSON_START = re.compile(rb"\{\s*[\"}]|\[\s*[\[{\]]")


class FileSource:
    """The rows of one file: JSONL, JSON, CSV, TSV, Parquet or text; gzip or zstd around it."""

    def __init__(self, stream: Bytes, size: int, path: Path | None = None) -> None:
        self.notes: list[str] = []
        self._stream, self._size, self._path = stream, size, path
        self._share = 0.0
        self._head = stream.read(HEAD)
        if not self._head.strip(b"\xef\xbb\xbf \r\n\t"):
            raise ApplicationError("The file is empty.", code="empty_file", param="file")
        self._table: tuple[str, list[str]] | None = None
        self._encoding = "utf-8-sig"
        kind = self._kind()
        self.container = f"{kind}.{stream.packing}" if stream.packing else kind
        self._kind_name = kind

    def progress(self) -> tuple[int, int]:
        done = self._size * self._share if self._share else self._stream.position
        return min(int(done), self._size), self._size

    def _tell(self, share: float) -> None:
        self._share = share

    def records(self) -> Iterator[Record]:
        try:
            yield from self._records()
        finally:
            self._stream.close()

    def _records(self) -> Iterator[Record]:
        match self._kind_name:
            case "parquet":
                from finetune.reading.parquet import parquet_rows

                yield from parquet_rows(self._path, self._stream, self._head, self._tell)
            case "jsonl":
                yield from json_lines(self._stream, self._head)
            case "json":
                yield from JsonValues(self._stream, self._head).records()
            case "csv" | "tsv":
                delimiter, names = self._table or (",", [])
                yield from table_rows(
                    self._stream,
                    self._head,
                    delimiter=delimiter,
                    names=names,
                    encoding=self._encoding,
                )
            case _:
                yield from self._texts()

    def _kind(self) -> str:
        head = self._head
        if head.startswith(PARQUET):
            return "parquet"
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ApplicationError(
                "The file is UTF-16. Save it as UTF-8 (iconv -f utf-16 -t utf-8).",
                code="not_utf8",
                param="file",
            )
        if b"\x00" in head:
            raise ApplicationError(
                "The file is none of JSONL, JSON, CSV, TSV, Parquet and zip.",
                code="unknown_container",
                param="file",
            )
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if wrapped(start[:PEEK].decode("utf-8", "replace")):
            return "json"
        if _has_rows(start):
            return "jsonl"
        if JSON_START.match(start):
            return "json"
        self._encoding = _encoding(head)
        if self._encoding == "cp949":
            self.notes.append("The file is in CP949 (Korean Windows) and was read as that.")
        table = delimiter_of(head.decode(self._encoding, "replace"))
        if table is None:
            return "text"
        self._table = table
        return "tsv" if table[0] == "\t" else "csv"

    def _texts(self) -> Iterator[Record]:
        """Plain text: what empty lines part, or where there are none, each line."""
        blocks = b"\n\n" in self._head.replace(b"\r", b"")
        held: list[str] = []
        begun = 0
        for number, line in lines(self._stream, self._head):
            try:
                text = line.decode(self._encoding if number == 1 else self._plain()).rstrip("\r")
            except UnicodeDecodeError:
                wrong = "The line is not UTF-8."
                yield Record(number, BadLine("not_utf8", wrong, excerpt(line)))
                continue
            if blocks and text.strip():
                begun = begun or number
                held.append(text)
            elif blocks and held:
                yield Record(begun, {"text": "\n".join(held)})
                held, begun = [], 0
            elif text.strip():
                yield Record(number, {"text": text})
        if held:
            yield Record(begun, {"text": "\n".join(held)})

    def _plain(self) -> str:
        """The encoding of what follows the first line, which alone may begin with a mark."""
        return "utf-8" if self._encoding == "utf-8-sig" else self._encoding


def file_source(path: Path) -> FileSource:
    return FileSource(open_bytes(path), path.stat().st_size, path)


def _has_rows(start: bytes) -> bool:
    """Whether one of the first lines is an object by itself, even if another one is broken."""
    told = [line for line in start.split(b"\n")[:5] if line.strip()]
    if len(told) == 1 and len(start) > HEAD // 2 and start[:1] == b"{":
        # A first line that is longer than what was read.
        return True
    return any(not isinstance(parsed(line), BadLine) for line in told)


def _encoding(head: bytes) -> str:
    """UTF-8, or CP949 where the bytes are that alone: what Excel writes on Korean Windows."""
    # The end may cut a character in two.
    whole = head[: head.rfind(b"\n") + 1] or head
    for encoding in ("utf-8-sig", "cp949"):
        try:
            whole.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8-sig"
