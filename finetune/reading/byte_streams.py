"""The bytes of a file, unpacked as they are read; gzip and zstd are told by how they begin."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mlops.exceptions import ApplicationError

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
CHUNK = 1024 * 1024
# No row of text is longer; of a longer line no more than this is held in memory.
LONGEST_LINE = 32 * 1024 * 1024


class Bytes:
    """An open file, unpacked. `position` is how far into the file itself it has been read."""

    def __init__(self, opened: IO[bytes]) -> None:
        self._raw = opened
        head = opened.read(4)
        opened.seek(0)
        self.packing = "gz" if head[:2] == GZIP else "zst" if head == ZSTD else ""
        if self.packing == "gz":
            self._stream: IO[bytes] = gzip.GzipFile(fileobj=opened)  # type: ignore[assignment]
        elif self.packing == "zst":
            import pyarrow as pa

            self._stream = pa.CompressedInputStream(pa.PythonFile(opened, mode="r"), "zstd")
        else:
            self._stream = opened

    @property
    def position(self) -> int:
        return 0 if self._raw.closed else self._raw.tell()

    def read(self, size: int = CHUNK) -> bytes:
        """Raises ApplicationError where the packing is broken."""
        try:
            return self._stream.read(size)
        except (OSError, EOFError, ValueError) as error:
            if not self.packing:
                raise
            raise ApplicationError(
                f"The file ends or breaks off in its {self.packing} packing: {error}. Pack it "
                "again, or upload it whole.",
                code="broken_packing",
                param="file",
            ) from error

    def close(self) -> None:
        self._stream.close()
        self._raw.close()


def open_bytes(path: Path) -> Bytes:
    return Bytes(path.open("rb"))


def lines(stream: Bytes, head: bytes = b"") -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end), after `head`, which was read already.

    A line over LONGEST_LINE is cut to that length and one byte.
    """
    number, rest = 1, head
    while True:
        chunk = stream.read()
        if not chunk:
            break
        rest += chunk
        parts = rest.split(b"\n")
        rest = parts.pop()
        for part in parts:
            yield number, part[: LONGEST_LINE + 1]
            number += 1
        if len(rest) > LONGEST_LINE:
            rest = _skip_line(stream, rest)
    for part in rest.split(b"\n") if rest else ():
        yield number, part
        number += 1


def _skip_line(stream: Bytes, start: bytes) -> bytes:
    """The start of a line without an end in sight, and what follows that end."""
    while chunk := stream.read():
        _gone, end, after = chunk.partition(b"\n")
        if end:
            return start[: LONGEST_LINE + 1] + end + after
    return start[: LONGEST_LINE + 1]
