"""Files that lie in the documents' storage, to be taken in by prefix: `inbox/2026/`.

The storage holds everybody's documents, so only what lies below OCR_INBOX can be named, and of that
only one's own folder (`inbox/<username>/`) unless one sees everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from django.conf import settings
from django.core.files.storage import default_storage

from mlops.exceptions import ApplicationError
from mlops.models import User
from ocr.outputs import SUFFIXES


def prefix_check(prefix: str, *, user: User) -> str:
    """The prefix as `files_below` takes it. Raises ApplicationError if the user may not name it."""
    path = PurePosixPath(prefix.strip("/"))
    root = PurePosixPath(settings.OCR_INBOX.strip("/"))
    if not user.sees_all:
        root /= user.get_username()
    odd = ".." in path.parts or ".." in root.parts or "\\" in prefix or "\0" in prefix
    if odd or not prefix.strip("/") or not path.is_relative_to(root):
        raise ApplicationError(
            f"The prefix must lie below {root}/ in the storage.",
            code="prefix_not_allowed",
            status=403,
            param="prefix",
        )
    return f"{path}/"


def files_below(prefix: str) -> Iterator[str]:
    """The documents below the prefix, by name, folder after folder; hidden ones left out."""
    try:
        folders, files = default_storage.listdir(prefix)
    except FileNotFoundError:
        return
    for name in sorted(files):
        if not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES:
            yield f"{prefix}{name}"
    for name in sorted(folders):
        if name and not name.startswith("."):
            yield from files_below(f"{prefix}{name}/")
