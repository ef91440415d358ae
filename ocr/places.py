"""Where watched files lie and where their results go: a folder, or a prefix of the storage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO, BinaryIO, Protocol

from django.core.files.base import File
from django.core.files.storage import default_storage

from ocr.inbox import files_below
from ocr.outputs import SUFFIXES

STORAGE = "storage:"


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was seen. `signature` changes when it is written to."""

    name: str
    signature: str


class Place(Protocol):
    """Files by their path below the place, with `/` between its parts."""

    name: str

    def documents(self) -> Iterator[Seen]:
        """Those that could be documents, by their endings; hidden ones left out."""
        ...

    def open(self, name: str) -> IO[bytes]: ...

    def write(self, name: str, make: Callable[[BinaryIO], None]) -> None:
        """The file appears whole or not at all, and replaces one of that name."""
        ...

    def delete(self, name: str) -> None:
        """Nothing happens if it isn't there."""
        ...


def place(text: str) -> Place:
    """`storage:inbox/2026/` or a folder."""
    if text.startswith(STORAGE):
        return StoragePlace(text.removeprefix(STORAGE))
    return Folder(Path(text))


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.name = str(self._path)

    def documents(self) -> Iterator[Seen]:
        for folder, folders, files in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                    continue
                try:
                    stat = path.stat()
                except OSError:
                    continue  # gone since it was listed
                relative = path.relative_to(self._path).as_posix()
                yield Seen(relative, f"{stat.st_size}:{stat.st_mtime_ns}")

    def open(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")

    def write(self, name: str, make: Callable[[BinaryIO], None]) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                make(file)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class StoragePlace:
    """Below a prefix of the storage that documents are kept in: S3, or MEDIA_ROOT."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{PurePosixPath(prefix.strip('/'))}/"
        self.name = f"{STORAGE}{self._prefix}"

    def documents(self) -> Iterator[Seen]:
        for path in files_below(self._prefix):
            try:
                changed = default_storage.get_modified_time(path).timestamp()
                signature = f"{default_storage.size(path)}:{changed}"
            except FileNotFoundError:
                continue
            yield Seen(path.removeprefix(self._prefix), signature)

    def open(self, name: str) -> IO[bytes]:
        return default_storage.open(self._prefix + name)

    def write(self, name: str, make: Callable[[BinaryIO], None]) -> None:
        with TemporaryFile() as file:
            make(file)
            file.seek(0)
            # A storage gives a new file another name where one is taken.
            default_storage.delete(self._prefix + name)
            default_storage.save(self._prefix + name, File(file))

    def delete(self, name: str) -> None:
        default_storage.delete(self._prefix + name)


def copy(source: IO[bytes]) -> Callable[[BinaryIO], None]:
    """For `write`: the content of an open file."""
    return lambda target: shutil.copyfileobj(source, target)
