"""How a document comes to be: judged by its content, stored, given its rows."""

from __future__ import annotations

import hashlib
from typing import IO

import structlog
from django.core.files.base import File
from django.db import transaction

from mlops.models import User
from ocr.models import Document, Page
from ocr.pages import inspect
from ocr.runner import limits

log = structlog.get_logger(__name__)

CHUNK = 1024 * 1024


def document_create(*, file: IO[bytes], name: str, owner: User | None, source: str) -> Document:
    """Judges the file by its content and stores it with its rows. Raises BadDocument.

    `file` is read from its start; nothing is stored if it isn't a whole, acceptable document.
    """
    path = getattr(file, "temporary_file_path", None)
    info = inspect(path() if path else file, limits=limits())
    digest, size = _sha256(file)
    document = Document(
        owner=owner,
        # A name is shown and offered as a file name; it is never part of a path here.
        name=(name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "") or "document")[-255:],
        size=size,
        sha256=digest,
        media_type=info.media_type,
        extension=info.extension,
        page_count=info.pages,
        source=source,
    )
    file.seek(0)
    document.file.save(f"original{info.extension}", File(file), save=False)
    try:
        with transaction.atomic():
            document.save(force_insert=True)
            Page.objects.bulk_create(
                [Page(document=document, number=n + 1) for n in range(info.pages)], batch_size=500
            )
    except Exception:
        document.file.storage.delete(document.file.name)
        raise
    log.debug("document_stored", document_id=str(document.pk), pages=info.pages, bytes=size)
    return document


def document_reuse_or_create(
    *, file: IO[bytes], name: str, source: str, owner: User | None = None
) -> Document:
    """The owner's document with the same content, if there is one whose file is still there."""
    digest, _size = _sha256(file)
    known = Document.objects.filter(owner=owner, sha256=digest).first()
    if known is not None and known.file.storage.exists(known.file.name):
        return known
    return document_create(file=file, name=name, owner=owner, source=source)


def _sha256(file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
