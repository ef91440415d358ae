"""`/health`: this process answers. `/ready`: what it needs answers too."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from mlops import policy, queues, selectors


@never_cache
@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """503 unless database, broker, storage, a worker on each of READY_QUEUES and, where there is
    one, the policy server answer.

    Says which of them is at fault, not why: the reason may name hosts, and goes to the log.
    """
    checks = {"database": _ok(_database), "broker": _ok(_broker), "storage": _ok(_storage)}
    if settings.CERBOS_URL:
        checks["policies"] = _ok(policy.health)
    seen = selectors.queues_seen(settings.QUEUES) if checks["database"] else set()
    workers = {name: name in seen for name in settings.QUEUES}
    up = all(checks.values()) and all(workers.get(name, False) for name in settings.READY_QUEUES)
    body = {"status": "ready" if up else "unavailable", **checks, "workers": workers}
    return JsonResponse(body, status=200 if up else 503)


def _ok(check: Callable[[], object]) -> bool:
    import structlog

    try:
        check()
    except Exception as error:
        # Whatever a driver raises means the same here: not ready.
        structlog.get_logger(__name__).warning("not_ready", check=check.__name__, error=str(error))
        return False
    return True


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _broker() -> None:
    queues.depths(["default"])


def _storage() -> None:
    default_storage.exists(f".ready-{uuid.uuid4().hex[:8]}")


def storage_write() -> None:
    """Writes and deletes one small file in the default storage; raises what goes wrong."""
    name = default_storage.save(f".check-{uuid.uuid4().hex}", ContentFile(b"ok"))
    default_storage.delete(name)
