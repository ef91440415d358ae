"""What is kept of a version beside its rows: split and line of each row, and hashes of them."""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator

# One byte a row.
DROPPED, TRAIN, VALIDATION, TEST = 0, 1, 2, 3
# Files of a version: packed numbers, one a row.
FACTS = ("splits", "lines", "order", "hashes", "prompts")
PROBLEMS_FILE = "problems.jsonl.gz"
SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def pack_bytes(content: bytes) -> bytes:
    return zlib.compress(content, 1)


def pack_numbers(numbers: array[int]) -> bytes:
    """Little endian, whatever machine this is."""
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return zlib.compress(numbers.tobytes(), 1)


def unpack_numbers(typecode: str, content: bytes) -> array[int]:
    numbers = array(typecode)
    numbers.frombytes(zlib.decompress(content))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def only_in(one: array[int], other: array[int]) -> Iterator[int]:
    """Places in `one` whose number isn't in `other`, as often as it is there; both are sorted."""
    at, end = 0, len(other)
    for place, number in enumerate(one):
        while at < end and other[at] < number:
            at += 1
        if at < end and other[at] == number:
            at += 1
        else:
            yield place
