"""Where each row of a stored dataset lies."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any

INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of packed blocks. `starts`: of each block, its first row and its first byte."""

    name: str
    rows: int
    bytes: int
    starts: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Index:
    """`rows` are numbered from 0 over all shards, in the order of the source."""

    kind: str
    rows: int
    sha256: str
    shards: list[Shard]

    def block_of(self, row: int) -> tuple[Shard, int, int, int]:
        """(shard, first byte, end byte, first row) of the block that holds the row."""
        for shard in self.shards:
            if row < shard.starts[0][0] + shard.rows:
                at = bisect_right(shard.starts, row, key=lambda start: start[0]) - 1
                first_row, begin = shard.starts[at]
                last = at + 1 == len(shard.starts)
                return shard, begin, shard.bytes if last else shard.starts[at + 1][1], first_row
        raise IndexError(f"row {row} of {self.rows}")

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Index:
        given: dict[str, Any] = json.loads(text)
        shards = [
            Shard(
                one["name"],
                one["rows"],
                one["bytes"],
                [(row, begin) for row, begin in one["starts"]],
            )
            for one in given.pop("shards")
        ]
        return cls(shards=shards, **given)
