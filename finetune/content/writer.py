"""Writes rows as packed JSON lines: gzip files made of members, each readable by itself."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from finetune.content.index import INDEX, Index, Shard

# A block is what is unpacked to show one row, a shard what a remote storage sends for it.
BLOCK_ROWS = 256
BLOCK_BYTES = 256 * 1024
SHARD_BYTES = 8 * 1024 * 1024
# Level 1 packs text to within a tenth of the usual level, four times as fast.
LEVEL = 1
# Blocks being packed at once; more would only hold memory.
AHEAD = 8


class ContentWriter:
    """Writes to a folder: rows-00000.jsonl.gz and so on, any of them an ordinary gzip file.

    Blocks are packed by a thread of its own, beside whoever makes the rows.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._hash = hashlib.sha256()
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="pack")
        self._packing: deque[tuple[int, Future[bytes]]] = deque()
        self._shards: list[Shard] = []
        self._file: BinaryIO | None = None
        self._rows = self._cut = 0

    def add(self, line: bytes) -> None:
        """One row, without its line end."""
        self._block.append(line)
        self._block_bytes += len(line)
        self._rows += 1
        if len(self._block) >= BLOCK_ROWS or self._block_bytes >= BLOCK_BYTES:
            self._pack()

    def finish(self) -> Index:
        """The index, which is written beside the shards. Nothing can be added any more."""
        if self._block:
            self._pack()
        while self._packing:
            self._write()
        self._end_shard()
        self._packer.shutdown()
        index = Index(self._kind, self._rows, self._hash.hexdigest(), self._shards)
        (self._folder / INDEX).write_bytes(index.to_json())
        return index

    def close(self) -> None:
        """Lets go of thread and file, whatever has become of them."""
        self._packer.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def _pack(self) -> None:
        content = b"\n".join(self._block) + b"\n"
        self._hash.update(content)
        self._packing.append((len(self._block), self._packer.submit(_packed, content)))
        self._block, self._block_bytes = [], 0
        while len(self._packing) > AHEAD:
            self._write()

    def _write(self) -> None:
        rows, future = self._packing.popleft()
        packed = future.result()
        if self._file is None:
            name = f"rows-{len(self._shards):05}.jsonl.gz"
            self._file = (self._folder / name).open("wb")
            self._shards.append(Shard(name, 0, 0, []))
        shard = self._shards[-1]
        self._file.write(packed)
        self._shards[-1] = Shard(
            shard.name,
            shard.rows + rows,
            shard.bytes + len(packed),
            [*shard.starts, (self._cut, shard.bytes)],
        )
        self._cut += rows
        if self._shards[-1].bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _packed(content: bytes) -> bytes:
    """One gzip member; its header holds no time, so that the same rows give the same bytes."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()
