"""Several files together, in a zip or a folder: data files by split, or pictures with labels."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from finetune.formats.lines import IMAGE_COLUMNS, is_image_name
from finetune.reading.base import BadLine, Record, split_named
from finetune.reading.byte_streams import Bytes
from finetune.reading.files import FileSource
from mlops.exceptions import ApplicationError

DATA_SUFFIXES = frozenset((".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz", ".zst"))
# The text of one picture beside it, as Tesseract's trainer and others have it.
PAIR_SUFFIXES = (".gt.txt", ".txt")
# A picture of one line is smaller.
LARGEST_PICTURE = 32 * 1024 * 1024
# From so many folders on, a folder is taken for a page's; fewer are parts of a whole.
LEAST_FOLDERS = 10
PART = re.compile(r"[_-](?:crop|line|word|l)[_-]?\d+$", re.IGNORECASE)


class Files(Protocol):
    """What lies in a zip or a folder, by its path there."""

    sizes: dict[str, int]

    def open(self, name: str) -> IO[bytes]: ...


class ZipFiles:
    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ApplicationError(
                f"The zip can't be read: {error}. Upload it whole.", code="broken_zip", param="file"
            ) from error
        self.sizes = {
            one.filename: one.file_size for one in self._zip.infolist() if not one.is_dir()
        }

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(name)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            # RuntimeError: it wants a password.
            raise ApplicationError(
                f"{name} can't be read out of the zip: {error}", code="broken_zip", param="file"
            ) from error


class FolderFiles:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.sizes = {
            one.relative_to(path).as_posix(): one.stat().st_size
            for one in sorted(path.rglob("*"))
            if one.is_file()
        }

    def open(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")


class BundleSource:
    """Rows of every data file; names of pictures in them become the pictures."""

    def __init__(self, files: Files, container: str) -> None:
        self.container, self.notes = container, []
        self._files = files
        seen = [name for name in files.sizes if not _hidden(name)]
        self._pictures = {name for name in seen if is_image_name(name)}
        self._by_name = _unique_names(self._pictures)
        self._pairs = self._paired()
        self._data = [
            name
            for name in seen
            if PurePosixPath(name).suffix.lower() in DATA_SUFFIXES and not self._pairs
        ]
        if not self._data and not self._pairs:
            raise ApplicationError(
                "There are no data files in it: put JSONL, JSON, CSV, TSV or Parquet there, or "
                "pictures of lines with labels.csv (filename,words) or rec_gt.txt (path, tab, "
                "text).",
                code="no_data",
                param="file",
            )
        parents = {str(PurePosixPath(name).parent) for name in self._pictures}
        self._folders_group = len(parents) >= LEAST_FOLDERS
        wanted = [*self._data, *self._pictures] if self._pictures else self._data
        self._total = sum(files.sizes[name] for name in wanted)
        self._done = 0

    def progress(self) -> tuple[int, int]:
        return min(self._done, self._total), self._total

    def records(self) -> Iterator[Record]:
        if self._pairs:
            yield from self._pair_rows()
            return
        many = len(self._data) > 1
        for name in self._data:
            if not self._files.sizes[name]:
                continue
            opened = self._files.open(name)
            source = FileSource(Bytes(opened), self._files.sizes[name])
            if many:
                self.notes.append(f"{name}: {source.container}")
            self.notes += source.notes
            split = _split_of(name)
            for record in source.records():
                yield self._completed(record, name, split)
            self._done += self._files.sizes[name]

    def _completed(self, record: Record, data_file: str, split: str) -> Record:
        """The record with its picture read, and with the split and group that its place says."""
        value, group = record.value, record.group
        if self._pictures and not isinstance(value, BadLine):
            column = next((name for name in IMAGE_COLUMNS if name in value), None)
            name = value[column] if column else None
            if column and isinstance(name, str) and is_image_name(name):
                found = self._find(name, PurePosixPath(data_file).parent)
                if found:
                    value = {**value, column: self._read(found)}
                    group = group or self._group_of(found)
                    split = split or _split_of(found)
        return Record(record.line, value, record.split or split, group)

    def _pair_rows(self) -> Iterator[Record]:
        for number, (picture, text_file) in enumerate(sorted(self._pairs.items()), 1):
            with self._files.open(text_file) as opened:
                text = opened.read(1024 * 1024)
            try:
                value: dict[str, object] | BadLine = {
                    "image": self._read(picture),
                    "text": text.decode("utf-8-sig").strip(),
                }
            except UnicodeDecodeError:
                value = BadLine("not_utf8", f"{text_file} is not UTF-8.", picture)
            yield Record(number, value, _split_of(picture), self._group_of(picture))

    def _paired(self) -> dict[str, str]:
        """Each picture's own text file, if most pictures have one."""
        pairs = {}
        for name in self._pictures:
            stem = str(PurePosixPath(name).with_suffix(""))
            for suffix in PAIR_SUFFIXES:
                if stem + suffix in self._files.sizes:
                    pairs[name] = stem + suffix
                    break
        return pairs if len(pairs) * 2 > len(self._pictures) else {}

    def _find(self, name: str, folder: PurePosixPath) -> str | None:
        """The picture of that name: beside the labels, from the top, or wherever it alone is."""
        name = name.replace("\\", "/").removeprefix("./")
        for place in (folder / name, PurePosixPath(name)):
            if str(place) in self._pictures:
                return str(place)
        return self._by_name.get(PurePosixPath(name).name)

    def _read(self, name: str) -> bytes | None:
        size = self._files.sizes[name]
        self._done += size
        if size > LARGEST_PICTURE:
            return None
        with self._files.open(name) as opened:
            return opened.read(LARGEST_PICTURE)

    def _group_of(self, name: str) -> str:
        """The page that a picture's name speaks of: `page3_line_12.png`, or its folder's."""
        place = PurePosixPath(name)
        page = PART.sub("", place.stem)
        if page != place.stem:
            return str(place.parent / page)
        return str(place.parent) if self._folders_group else ""


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _unique_names(names: set[str]) -> dict[str, str]:
    """File name to path, for those names that stand in one folder alone."""
    found: dict[str, str] = {}
    twice = set()
    for name in names:
        last = PurePosixPath(name).name
        if last in found:
            twice.add(last)
        found[last] = name
    return {last: name for last, name in found.items() if last not in twice}


def _split_of(name: str) -> str:
    """The split that a path speaks of: `train.jsonl`, `val/0001.png`, `rec_gt_test.txt`."""
    for part in reversed(PurePosixPath(name).parts):
        for word in re.split(r"[-_. ]", part.lower()):
            if found := split_named(word):
                return found
    return ""
