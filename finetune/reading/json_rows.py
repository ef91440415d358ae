"""Rows of JSON: one a line, or values that follow each other or stand in a list."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from json.decoder import WHITESPACE
from typing import Any

from finetune.reading.base import BadLine, Record, split_named
from finetune.reading.byte_streams import LONGEST_LINE, Bytes, lines
from mlops.exceptions import ApplicationError

EXCERPT = 200
# Names of lists of rows in an object that holds a whole dataset.
WRAPPED = re.compile(r'\{\s*"(?P<name>\w+)"\s*:\s*\[')
# More than such a beginning takes, with room for white space.
PEEK = 1000
WRAPPERS = ("data", "rows", "examples", "items", "records", "instances")


def json_lines(stream: Bytes, head: bytes) -> Iterator[Record]:
    """One record a line; empty lines are passed over."""
    for number, line in lines(stream, head):
        if len(line) > LONGEST_LINE:
            yield Record(number, too_large(line))
        elif line and not line.isspace():
            yield Record(number, parsed(line))


def parsed(line: bytes) -> dict[str, Any] | BadLine:
    try:
        value = json.loads(line.decode("utf-8-sig" if line[:1] == b"\xef" else "utf-8"))
    except UnicodeDecodeError as error:
        where = f"Byte {error.start + 1} of the line is not UTF-8."
        return BadLine("not_utf8", where, excerpt(line))
    except ValueError as error:
        return BadLine("not_json", f"{error}.", excerpt(line))
    return value if isinstance(value, dict) else not_object(value)


def not_object(value: Any) -> BadLine:
    shown = json.dumps(value, ensure_ascii=False)[:EXCERPT]
    return BadLine("not_object", "The row is no JSON object.", shown)


def too_large(line: bytes) -> BadLine:
    message = f"The row has more than {LONGEST_LINE // 1024**2} MB."
    return BadLine("too_large", message, excerpt(line))


def excerpt(line: bytes) -> str:
    return line[: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]


def wrapped(text: str, at: int = 0) -> re.Match[str] | None:
    """The beginning of an object that holds lists of rows by split, or one list."""
    match = WRAPPED.match(text, at)
    return match if match and (split_named(match["name"]) or match["name"] in WRAPPERS) else None


class JsonValues:
    """Values of JSON out of a stream, of which no more than one row is held at a time."""

    def __init__(self, stream: Bytes, head: bytes) -> None:
        self._stream = stream
        self._decode = getincrementaldecoder("utf-8-sig")("replace").decode
        self._text = self._decode(head)
        self._at = 0
        self._line = 1
        self._ended = False
        self._decoder = json.JSONDecoder()

    def records(self) -> Iterator[Record]:
        """Of a list of rows, of rows that follow each other, and of an object of such lists."""
        while char := self._next_char():
            if char == "[":
                self._at += 1
                yield from self._list("")
            elif char == "{" and (name := self._wrapper()) is not None:
                yield from self._wrapped(name)
            else:
                yield self._row("")
            if self._next_char() == ",":
                self._at += 1

    def _list(self, split: str) -> Iterator[Record]:
        """The rows up to the end of a list whose bracket is passed."""
        while (char := self._next_char()) and char != "]":
            yield self._row(split)
            if self._next_char() == ",":
                self._at += 1
        if not char:
            raise self._broken("the list has no end")
        self._at += 1

    def _wrapper(self) -> str | None:
        """The first name of an object that holds lists of rows; the place is left behind its [."""
        while len(self._text) - self._at < PEEK and not self._ended:
            self._more()
        match = wrapped(self._text, self._at)
        if match is None:
            return None
        self._line += match[0].count("\n")
        self._at = match.end()
        return match["name"]

    def _wrapped(self, name: str) -> Iterator[Record]:
        while True:
            yield from self._list(split_named(name))
            while self._next_char() == ",":
                self._at += 1
                self._next_char()
                name = str(self._value())
                if self._next_char() == ":":
                    self._at += 1
                if self._next_char() == "[" and (split_named(name) or name in WRAPPERS):
                    self._at += 1
                    break
                self._value()
            else:
                if self._next_char() == "}":
                    self._at += 1
                return

    def _row(self, split: str) -> Record:
        self._next_char()
        line = self._line
        value = self._value()
        return Record(line, value if isinstance(value, dict) else not_object(value), split)

    def _value(self) -> Any:
        """The value that begins here. Raises ApplicationError naming the line of what is none."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                # It may be whole once more is read.
                if self._ended or len(self._text) - self._at > LONGEST_LINE:
                    raise self._broken(str(error)) from error
                self._more()
                continue
            if end == len(self._text) and not self._ended:
                # A number that goes on in the next chunk would be whole here, too.
                self._more()
                continue
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _next_char(self) -> str:
        """The next one that is no white space, "" at the end; the place is moved to it."""
        while True:
            match = WHITESPACE.match(self._text, self._at)
            end = match.end() if match else self._at
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            if end < len(self._text):
                return self._text[end]
            if self._ended:
                return ""
            self._more()

    def _more(self) -> None:
        chunk = self._stream.read()
        self._ended = not chunk
        self._text = self._text[self._at :] + self._decode(chunk, self._ended)
        self._at = 0

    def _broken(self, why: str) -> ApplicationError:
        return ApplicationError(
            f"The JSON breaks off near line {self._line}: {why}. Mend it, or write one object a "
            "line (JSONL), of which one broken line costs one row.",
            code="broken_json",
            param="file",
        )
