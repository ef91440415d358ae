"""Sends the webhook messages that are due, apart from running jobs; restarts lose none."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from mlops import outgoing, webhooks
from mlops.models import Webhook, WebhookDelivery

log = structlog.get_logger(__name__)

# Seconds from one attempt to the next, as Standard Webhooks recommends; then it has failed.
BACK_OFF = (5, 300, 1800, 7200, 18000, 36000, 36000)
# The addresses that are called at once: one that hangs should keep few others waiting.
AT_ONCE = 4


def policy() -> outgoing.Policy:
    return outgoing.Policy.of(settings.WEBHOOK_ALLOW_NETWORKS, http=settings.WEBHOOK_ALLOW_HTTP)


def deliver_due(*, limit: int = 50) -> int:
    """One attempt at each message that is due; returns how many were made.

    Any number of processes may do this at once: each message is claimed by one of them, and is
    due again if that one dies.
    """
    due = WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.PENDING, next_at__lte=Now()
    ).order_by("next_at")
    claim = timedelta(seconds=3 * settings.WEBHOOK_TIMEOUT_SECONDS)
    taken = [
        pk
        for pk in due.values_list("pk", flat=True)[:limit]
        if due.order_by()
        .filter(pk=pk)
        .update(next_at=Now() + claim * 2, attempts=F("attempts") + 1)
    ]
    if not taken:
        return 0
    with ThreadPoolExecutor(min(AT_ONCE, len(taken)), thread_name_prefix="webhook") as pool:
        for done in [pool.submit(_deliver, pk) for pk in taken]:
            done.result()
    return len(taken)


def _deliver(pk: object) -> None:
    try:
        attempt(WebhookDelivery.objects.select_related("owner").get(pk=pk))
    except WebhookDelivery.DoesNotExist:
        return
    finally:
        connection.close()


def attempt(delivery: WebhookDelivery) -> None:
    """Sends the message once and writes what became of it."""
    status: int | None = None
    final = False
    try:
        status, answer = outgoing.post(
            delivery.url,
            body=delivery.body.encode(),
            headers=webhooks.signed_headers(delivery, at=int(time.time())),
            policy=policy(),
            timeout=settings.WEBHOOK_TIMEOUT_SECONDS,
        )
        error = "" if 200 <= status < 300 else f"answered {status}: {answer[:500]}"
        final = status == 410
    except outgoing.Refused as refused:
        error, final = str(refused), True
    except outgoing.Unreachable as unreachable:
        error = str(unreachable)
    row = WebhookDelivery.objects.filter(pk=delivery.pk)
    if not error:
        ended = {"status": WebhookDelivery.Status.DELIVERED, "next_at": None, "ended_at": Now()}
    elif final or delivery.attempts > len(BACK_OFF):
        ended = {"status": WebhookDelivery.Status.FAILED, "next_at": None, "ended_at": Now()}
    else:
        wait = BACK_OFF[delivery.attempts - 1] * random.uniform(1, 1.1)
        ended = {"next_at": timezone.now() + timedelta(seconds=wait)}
    row.update(response_status=status, error=error, **ended)
    if status == 410 and delivery.webhook_id:
        # Gone: its owner wants no more of it.
        Webhook.objects.filter(pk=delivery.webhook_id).update(
            enabled=False, note="Turned off: it answered 410 Gone."
        )
    log.info(
        "webhook_sent",
        delivery=str(delivery.pk),
        url=delivery.url,
        attempt=delivery.attempts,
        status=status,
        error=error,
    )


class Deliverer(threading.Thread):
    """The sending as a thread of a worker: an address that hangs delays neither jobs nor rounds."""

    def __init__(self) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(settings.WEBHOOK_POLL_SECONDS):
            _guarded(deliver_due)
        connection.close()

    def stop(self) -> None:
        self._stop_asked.set()


def _guarded(step: Callable[[], object]) -> None:
    try:
        close_old_connections()
        step()
    except DatabaseError as error:
        log.warning("webhooks_postponed", error=str(error))
    except Exception:
        # A fault with one message must not end the thread that sends the others.
        log.exception("webhooks_failed")
