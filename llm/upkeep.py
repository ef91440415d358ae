"""What keeps requests and models in order without anyone's help; called by maintenance."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from llm import instances
from llm.held import fingerprint, holder
from llm.models import GenerationJob, LanguageModel, RelayEntry
from mlops.exceptions import EngineUnavailable
from mlops.jobs import stopping
from mlops.models import Job

log = structlog.get_logger(__name__)

ENDED = [Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED]
# Entries that nobody has read for this long have no reader any more.
RELAY_KEEP = timedelta(minutes=10)
AT_ONCE = 2000
# Between two times that one process does it.
EXPIRE_SECONDS = 60.0

_expired_at = -EXPIRE_SECONDS
_warming = threading.Lock()


def requests_expire() -> int:
    """Deletes old requests and forgotten reply streams; returns how many requests.

    The bodies of requests that ended without their worker are wiped, unless the model keeps texts.
    """
    global _expired_at
    instances.instances_expire()
    if time.monotonic() - _expired_at < EXPIRE_SECONDS:
        return 0
    _expired_at = time.monotonic()
    RelayEntry.objects.filter(created_at__lt=Now() - RELAY_KEEP).delete()
    kept = GenerationJob.objects.filter(status__in=ENDED, body__isnull=False)
    kept.exclude(model__store_texts=True).update(body=None)
    old = Job.objects.filter(
        kind=GenerationJob.KIND, status__in=ENDED, created_at__lt=timezone.now() - settings.LLM_KEEP
    )
    keys = list(old.order_by("created_at").values_list("pk", flat=True)[:AT_ONCE])
    if keys:
        GenerationJob.objects.filter(pk__in=keys).delete()
    return len(keys)


def models_keep(queues: list[str]) -> None:
    """Brings this worker's models into line with their rows: which to hold, which to let go."""
    rows = {row.pk: row for row in LanguageModel.objects.filter(base=None)}
    for held in holder.models():
        row = rows.get(held.key)
        if row is None or not row.enabled or fingerprint(row) != held.made_of:
            holder.retire(held)
        elif row.unload_asked_at is not None and held.loaded_at < row.unload_asked_at.timestamp():
            holder.drop(held)
        held.row = row or held.row
    holder.sweep()
    instances.instances_refresh({held.key: held.active for held in holder.models()})
    wanted = [
        row
        for row in rows.values()
        if row.warm and row.enabled and row.queue in queues and not holder.holds(row)
    ]
    if wanted and not stopping.is_set() and _warming.acquire(blocking=False):
        # Loading takes seconds to minutes, and maintenance has lost jobs to look after.
        threading.Thread(target=_warm, args=(wanted,), name="warming", daemon=True).start()


def _warm(rows: list[LanguageModel]) -> None:
    try:
        for row in rows:
            try:
                holder.get(row)
            except EngineUnavailable as error:
                log.warning("model_not_warmed", model=row.name, error=error.message)
    finally:
        connection.close()
        _warming.release()


def models_close() -> None:
    """At the worker's end."""
    holder.close()
    connection.close()
