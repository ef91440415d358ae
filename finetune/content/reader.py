"""Reads rows of a stored dataset: some by their numbers, all in order, those that hold a word.

Used by the site, so nothing here needs numpy or pyarrow.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import IO, Any

from django.core.files.storage import Storage, default_storage

from finetune.content.index import INDEX, Index
from finetune.formats.base import Row
from mlops.exceptions import ApplicationError

PIECE = 256 * 1024


def content_folder(sha256: str) -> str:
    """Where rows with this hash lie, in whatever dataset they stand."""
    return f"datasets/{sha256[:2]}/{sha256}"


@lru_cache(maxsize=32)
def _index(folder: str, _storage: Storage) -> Index:
    try:
        with _storage.open(f"{folder}/{INDEX}") as file:
            return Index.from_json(file.read())
    except FileNotFoundError as error:
        raise ApplicationError(
            "The rows of this version are gone from the storage. Import the data again.",
            code="content_missing",
            status=404,
        ) from error


class ContentReader:
    """Rows are numbered from 0. What was once written under a hash never changes."""

    def __init__(self, sha256: str, storage: Storage = default_storage) -> None:
        self._folder, self._storage = content_folder(sha256), storage
        self.index = _index(self._folder, storage)

    def __len__(self) -> int:
        return self.index.rows

    def rows(self, numbers: Iterable[int]) -> dict[int, Row]:
        """Those rows, by number; numbers beyond the end are left out."""
        wanted = sorted({number for number in numbers if 0 <= number < len(self)})
        found: dict[int, Row] = {}
        opened: tuple[str, IO[bytes]] | None = None
        lines: list[bytes] = []
        first = end = 0
        for number in wanted:
            if not first <= number < end:
                shard, begin, stop, first = self.index.block_of(number)
                if opened is None or opened[0] != shard.name:
                    if opened:
                        opened[1].close()
                    opened = shard.name, self._open(shard.name)
                opened[1].seek(begin)
                lines = _unpacked(opened[1].read(stop - begin)).split(b"\n")
                end = first + len(lines) - 1
            found[number] = json.loads(lines[number - first])
        if opened:
            opened[1].close()
        return found

    def row(self, number: int) -> Row:
        """Raises ApplicationError where there is no such row."""
        found = self.rows([number])
        if number not in found:
            raise ApplicationError(
                f"There is no row {number}; rows are numbered from 0 to {len(self) - 1}.",
                code="not_found",
                status=404,
            )
        return found[number]

    def blocks(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """(number of its first row, lines) of each block from the one that holds row `start`."""
        for shard in self.index.shards:
            if start >= shard.starts[0][0] + shard.rows:
                continue
            ends = [begin for _row, begin in shard.starts[1:]] + [shard.bytes]
            with self._open(shard.name) as file:
                for (row, begin), end, after in zip(
                    shard.starts, ends, [*shard.starts[1:], None], strict=True
                ):
                    next_row = after[0] if after else shard.starts[0][0] + shard.rows
                    if next_row <= start:
                        continue
                    file.seek(begin)
                    yield row, _unpacked(file.read(end - begin))

    def all_rows(self) -> Iterator[tuple[int, Row]]:
        for first, block in self.blocks():
            for number, line in enumerate(block.splitlines(), first):
                yield number, json.loads(line)

    def packed(self) -> Iterator[bytes]:
        """The whole as one gzip file, in pieces."""
        for shard in self.index.shards:
            with self._open(shard.name) as file:
                while piece := file.read(PIECE):
                    yield piece

    def _open(self, name: str) -> IO[bytes]:
        return self._storage.open(f"{self._folder}/{name}")


def _unpacked(member: bytes) -> bytes:
    return zlib.decompress(member, 31)


def as_searched(words: str) -> bytes:
    """The words as they stand in a line of JSON, in small letters where these are ASCII."""
    return json.dumps(words, ensure_ascii=False)[1:-1].encode().lower()


def found_in(texts: Iterable[tuple[str, str]], words: str) -> bool:
    low = words.lower()
    return any(low in text.lower() for _field, text in texts)


def searched(
    reader: ContentReader, words: str, *, start: int, most: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, row) of rows from `start` whose line holds the words, among the next `most` rows.

    A block without them is not parsed. Small and capital ASCII letters are one.
    """
    needle, end = as_searched(words), start + most
    for first, block in reader.blocks(start):
        if first >= end:
            return
        if needle not in block.lower():
            continue
        for number, line in enumerate(block.splitlines(), first):
            if start <= number < end and needle in line.lower():
                yield number, json.loads(line)
