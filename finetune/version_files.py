"""What of a version lies in the storage: put there once, and read by the site."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import compress
from pathlib import Path

from django.core.files.base import File
from django.core.files.storage import default_storage

from finetune.content.facts import FACTS, PROBLEMS_FILE, SPLITS, TEST, unpack_numbers
from finetune.content.index import INDEX, Index
from finetune.content.reader import ContentReader, content_folder
from finetune.formats.base import Row
from finetune.models import DatasetVersion
from mlops.exceptions import ApplicationError

# Small once packed, and wanted for every page of rows.
SHOWN_WITH_ROWS = ("splits", "lines")
# The field of a row of OCR that holds its picture.
ENCODED = "image"


def content_put(folder: Path, index: Index) -> None:
    """Puts the rows into the storage unless these very rows are there. The index comes last."""
    target = content_folder(index.sha256)
    if default_storage.exists(f"{target}/{INDEX}"):
        return
    for name in [*(shard.name for shard in index.shards), INDEX]:
        _put(folder / name, f"{target}/{name}")


def facts_put(folder: Path, version: DatasetVersion) -> None:
    for name in [*(f"{fact}.bin" for fact in FACTS), PROBLEMS_FILE]:
        _put(folder / name, f"{version.folder}/{name}")


def _put(path: Path, name: str) -> None:
    """What another attempt has left there is replaced: it may be half a file."""
    default_storage.delete(name)
    with path.open("rb") as file:
        default_storage.save(name, File(file))


def version_files_delete(version: DatasetVersion) -> None:
    """Deletes the version's own files; and its rows, if no other version holds the same."""
    for name in [*(f"{fact}.bin" for fact in FACTS), PROBLEMS_FILE]:
        default_storage.delete(f"{version.folder}/{name}")
    if DatasetVersion.objects.filter(sha256=version.sha256).exclude(pk=version.pk).exists():
        return
    folder = content_folder(version.sha256)
    try:
        index = ContentReader(version.sha256).index
    except ApplicationError:
        return
    for name in [INDEX, *(shard.name for shard in index.shards)]:
        default_storage.delete(f"{folder}/{name}")


def fact(version: DatasetVersion, name: str) -> bytes:
    """Packed numbers, one a row. Raises ApplicationError where the file is gone."""
    place = f"{version.folder}/{name}.bin"
    return _kept(place) if name in SHOWN_WITH_ROWS else _read(place)


@lru_cache(maxsize=16)
def _kept(name: str) -> bytes:
    return _read(name)


def _read(name: str) -> bytes:
    try:
        with default_storage.open(name) as file:
            return file.read()
    except FileNotFoundError as error:
        raise ApplicationError(
            "The files of this version are gone from the storage. Import the data again.",
            code="content_missing",
            status=404,
        ) from error


def splits_of(version: DatasetVersion) -> bytes:
    """The split of each stored row, a byte each: 0 (left out), or `content.facts.SPLITS`."""
    return zlib.decompress(fact(version, "splits"))


def numbers_of(version: DatasetVersion, name: str, typecode: str) -> array[int]:
    return unpack_numbers(typecode, fact(version, name))


def split_rows(version: DatasetVersion, split: str = "") -> list[int]:
    """Numbers of the rows of a split, or of all that are not left out."""
    splits = splits_of(version)
    wanted = bytes(
        (number == SPLITS[split]) if split else number != 0 for number in range(max(4, 256))
    )
    return list(compress(range(len(splits)), splits.translate(wanted)))


def version_rows(version: DatasetVersion, split: str) -> Iterator[Row]:
    """The rows of a split in order, one after the other: what training reads."""
    splits, wanted = splits_of(version), SPLITS[split]
    for number, row in ContentReader(version.sha256).all_rows():
        if splits[number] == wanted:
            yield row


def test_prompts(version: DatasetVersion) -> frozenset[int]:
    """Hashes of what the version tests by."""
    splits = splits_of(version)
    return frozenset(
        prompt
        for prompt, split in zip(numbers_of(version, "prompts", "Q"), splits, strict=True)
        if split == TEST
    )
