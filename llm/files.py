"""How a stored file comes to be and goes: streamed to the storage, named by its id alone.

Workers make and delete files as the site does, so this stands below the services.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import structlog
from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.utils import timezone

from llm.models import StoredFile
from mlops.exceptions import ApplicationError, JobFailed
from mlops.models import User

log = structlog.get_logger(__name__)

CHUNK = 1024 * 1024


def stored_file_create(
    *,
    owner: User | None,
    file: IO[bytes],
    purpose: str,
    filename: str = "",
    expires_seconds: int | None = None,
) -> StoredFile:
    """Stores a file of any purpose. Raises ApplicationError for one that is empty or too large.

    `file` is read twice from its start, in pieces; `filename` is shown, and never part of a path.
    """
    digest, size = _measured(file)
    now = timezone.now()
    stored = StoredFile(
        owner=owner,
        purpose=purpose,
        filename=clean_name(filename or str(getattr(file, "name", "") or "")),
        bytes=size,
        sha256=digest,
        expires_at=now + timedelta(seconds=expires_seconds) if expires_seconds else None,
    )
    file.seek(0)
    stored.file.save(stored.pk, File(file, name=stored.pk), save=False)
    try:
        stored.save(force_insert=True)
    except Exception:
        stored.file.storage.delete(stored.file.name)
        raise
    log.info("file_stored", file_id=stored.pk, purpose=purpose, bytes=size)
    return stored


def stored_file_write(
    *,
    owner: User | None,
    records: Iterable[dict[str, Any]],
    purpose: str,
    filename: str,
    expires_seconds: int | None = None,
) -> StoredFile | None:
    """Stores records as JSON lines; None if there is none. They are held on disk, not in memory."""
    with tempfile.TemporaryFile() as file:
        for record in records:
            file.write(json_line(record))
        if not file.tell():
            return None
        return stored_file_create(
            owner=owner,
            file=file,
            purpose=purpose,
            filename=filename,
            expires_seconds=expires_seconds,
        )


def json_line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def stored_file_delete(*, file: StoredFile) -> None:
    """Deletes the row, and the file once that is certain."""
    storage, name, pk = file.file.storage, file.file.name, file.pk
    with transaction.atomic():
        file.delete()
        transaction.on_commit(lambda: storage.delete(name))
    log.info("file_deleted", file_id=pk)


@contextmanager
def local_copy(file: StoredFile) -> Iterator[Path]:
    """The file on this machine, whatever storage it is kept in. Raises JobFailed if it is gone."""
    gone = f"The file {file.pk} is gone from the storage. Upload it again."
    try:
        path = Path(file.file.path)
    except NotImplementedError:
        path = None
    if path is not None:
        if not path.exists():
            raise JobFailed(gone, code="file_missing")
        yield path
        return
    with tempfile.NamedTemporaryFile() as copy:
        try:
            with file.file.storage.open(file.file.name) as stored:
                while chunk := stored.read(CHUNK):
                    copy.write(chunk)
        except FileNotFoundError as error:
            raise JobFailed(gone, code="file_missing") from error
        copy.flush()
        yield Path(copy.name)


def clean_name(name: str) -> str:
    """The last part of a name from a stranger, without what a terminal or header would act on."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(char for char in last if char.isprintable()).strip()
    return (shown or "file")[-255:]


def _measured(file: IO[bytes]) -> tuple[str, int]:
    """SHA-256 and length in bytes."""
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if size > settings.FILE_MAX_BYTES:
            raise ApplicationError(
                f"The file is larger than {settings.FILE_MAX_BYTES // 1024**2} MB. Split it, or "
                "ask the operator to raise FILE_MAX_MB.",
                code="file_too_large",
                param="file",
                status=413,
            )
    if not size:
        raise ApplicationError("The file is empty.", code="empty_file", param="file")
    return digest.hexdigest(), size
