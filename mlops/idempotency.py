"""`Idempotency-Key`: a request that is sent again acts once.

After https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/: the same key with
the same content is answered by what the first one made, with other content it is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import IO

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from mlops.exceptions import ApplicationError
from mlops.models import IdempotencyKey, Job, User

KEEP = timedelta(hours=24)
# A first request that has made nothing for this long died on the way.
ABANDONED = timedelta(seconds=60)
CHUNK = 1024 * 1024


def once(make: Callable[[], Job], *, owner: User, key: str, fingerprint: str) -> tuple[Job, bool]:
    """(job, whether an earlier request made it). `make` runs only for the first request.

    Raises ApplicationError: 422 if the key was used for something else, 409 while the first
    request is still under way. One that fails leaves the key unused.
    """
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise ApplicationError(
            "Idempotency-Key must be 1 to 255 printable characters without blanks.",
            code="invalid_idempotency_key",
            param="Idempotency-Key",
        )
    row, own = _take(owner, key, fingerprint)
    if not own:
        return _earlier(row, fingerprint), True
    try:
        job = make()
    except BaseException:
        IdempotencyKey.objects.filter(pk=row.pk, job=None).delete()
        raise
    IdempotencyKey.objects.filter(pk=row.pk).update(job=job.pk)
    return job, False


def fingerprint(place: str, fields: Iterable[tuple[str, str]], files: Iterable[IO[bytes]]) -> str:
    """SHA-256 of what a request asks for: where, its fields in any order, its files' content."""
    digest = hashlib.sha256(repr((place, sorted(fields))).encode())
    for file in files:
        content = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(CHUNK):
            content.update(chunk)
        file.seek(0)
        digest.update(content.digest())
    return digest.hexdigest()


def keys_expire() -> int:
    """Forgets keys that are old enough; returns how many."""
    return IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEEP).delete()[0]


def _take(owner: User, key: str, fingerprint: str) -> tuple[IdempotencyKey, bool]:
    """The key's row, and whether it is ours to carry out; of any number of requests for one."""
    rows = IdempotencyKey.objects.filter(owner=owner, key=key)
    rows.filter(created_at__lt=timezone.now() - KEEP).delete()
    rows.filter(job=None, created_at__lt=timezone.now() - ABANDONED).delete()
    try:
        with transaction.atomic():
            row = IdempotencyKey.objects.create(
                owner=owner, key=key, fingerprint=fingerprint, created_at=Now()
            )
    except IntegrityError:
        row = rows.first()
        if row is None:
            return _take(owner, key, fingerprint)
        return row, False
    return row, True


def _earlier(row: IdempotencyKey, fingerprint: str) -> Job:
    if row.fingerprint != fingerprint:
        raise ApplicationError(
            "This Idempotency-Key was used for a different request. Use a new key.",
            code="idempotency_key_reused",
            status=422,
            param="Idempotency-Key",
        )
    if row.job is None:
        raise ApplicationError(
            "The first request with this Idempotency-Key is still being carried out. "
            "Try again in a moment.",
            code="idempotency_in_progress",
            status=409,
            param="Idempotency-Key",
        )
    return row.job
