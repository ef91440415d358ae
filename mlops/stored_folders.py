"""Whole folders in the storage: put there file by file, checked by hash when they are fetched.

A folder is there once its index is: that is written last, and deleted first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, default_storage

from mlops.exceptions import ApplicationError

INDEX = "files.json"
PIECE = 1024 * 1024

# Name below the folder -> (bytes, sha256 in hex).
Files = dict[str, tuple[int, str]]


class FolderMissing(ApplicationError):
    """The folder isn't in the storage, or what is there isn't what was put there."""

    code = "content_missing"
    status = 404


def folder_files(folder: Path) -> Files:
    """What lies below a local folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): measure(path) for path in paths}


def measure(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def folder_put(local: Path, target: str, files: Files | None = None) -> Files:
    """Puts a local folder into the storage as `target`; what an attempt before left is replaced.

    `files`: what is known to lie there, so that it needn't be read once more.
    """
    known = folder_files(local) if files is None else files
    folder_delete(target)
    for name in known:
        _put(local / name, f"{target}/{name}")
    index = json.dumps(known, ensure_ascii=False).encode()
    default_storage.save(f"{target}/{INDEX}", ContentFile(index))
    return known


def _put(path: Path, name: str) -> None:
    default_storage.delete(name)
    if isinstance(default_storage, FileSystemStorage) and _linked(path, name):
        return
    with path.open("rb") as file:
        default_storage.save(name, File(file))


def _linked(path: Path, name: str) -> bool:
    """A second name for the same bytes, where both lie on one disk: they are never changed."""
    place = Path(default_storage.path(name))
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Of a symbolic link it would be a second link, which leads nowhere once the folder is gone.
        os.link(path.resolve(), place)
    except OSError:
        return False
    return True


def folder_index(target: str) -> Files:
    """What lies in the storage as `target`. Raises FolderMissing."""
    try:
        with default_storage.open(f"{target}/{INDEX}") as file:
            found = json.loads(file.read())
    except (FileNotFoundError, ValueError) as error:
        raise FolderMissing(f"'{target}' is not in the storage, or not whole.") from error
    return {name: (size, digest) for name, (size, digest) in found.items()}


def folder_get(target: str, local: Path) -> Files:
    """Fetches a folder whole or not at all; nothing is done where it lies there already.

    Raises FolderMissing where files are missing or other than those that were put there.
    """
    files = folder_index(target)
    if local.is_dir():
        return files
    local.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local.parent) as temporary:
        unfinished = Path(temporary) / "folder"
        unfinished.mkdir()
        for name, (_size, digest) in files.items():
            place = (unfinished / name).resolve()
            if not place.is_relative_to(unfinished.resolve()):
                raise FolderMissing(f"'{target}' names a file outside of it.")
            place.parent.mkdir(parents=True, exist_ok=True)
            _fetch(f"{target}/{name}", place)
            if measure(place)[1] != digest:
                raise FolderMissing(f"'{target}/{name}' is not what was put there.")
        try:
            unfinished.rename(local)
        except OSError:
            # Another process was faster.
            if not local.is_dir():
                raise
    return files


def _fetch(name: str, place: Path) -> None:
    try:
        with default_storage.open(name) as source, place.open("wb") as target:
            shutil.copyfileobj(source, target, PIECE)
    except FileNotFoundError as error:
        raise FolderMissing(f"'{name}' is gone from the storage.") from error


def folder_delete(target: str) -> None:
    """Deletes the folder if it is there."""
    try:
        files = folder_index(target)
    except FolderMissing:
        return
    for name in [INDEX, *files]:
        default_storage.delete(f"{target}/{name}")
