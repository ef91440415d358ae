"""Rows out of files, zips, folders and hubs, in bounded memory."""

from __future__ import annotations

from pathlib import Path

from finetune.reading.base import BadLine, Record, Source, split_named
from finetune.reading.bundle import BundleSource, FolderFiles, ZipFiles
from finetune.reading.files import file_source
from finetune.reading.hub import HubSource, is_hub_name

__all__ = ["BadLine", "HubSource", "Record", "Source", "is_hub_name", "open_source", "split_named"]

ZIP = b"PK\x03\x04"


def open_source(path: Path) -> Source:
    """A file, zip or folder as rows. Raises ApplicationError for what is none of them."""
    if path.is_dir():
        return BundleSource(FolderFiles(path), "folder")
    with path.open("rb") as file:
        zipped = file.read(4) == ZIP
    if zipped:
        return BundleSource(ZipFiles(path), "zip")
    return file_source(path)
