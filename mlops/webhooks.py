"""Telling other systems that a job has ended, signed as Standard Webhooks has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: headers
`webhook-id`, `webhook-timestamp` and `webhook-signature` (`v1,` and the base64 of HMAC-SHA256 over
`id.timestamp.body`; several, separated by blanks, while a secret is being changed).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from mlops.models import Job, User, Webhook, WebhookDelivery

EVENTS = ("job.succeeded", "job.failed", "job.cancelled")
# For as long both the old and the new secret sign.
OVERLAP = timedelta(hours=24)


def secret(user: User, *, number: int | None = None) -> str:
    """The user's signing secret, `whsec_…`; derived, so that none is stored.

    `number` asks for an earlier or later one than that in force.
    """
    number = user.webhook_secret_number if number is None else number
    root = (settings.WEBHOOK_SECRET or settings.SECRET_KEY).encode()
    key = hmac.digest(root, f"mlops.webhooks:{user.pk}:{number}".encode(), hashlib.sha256)
    return f"whsec_{base64.b64encode(key).decode()}"


def secrets_in_force(user: User) -> list[str]:
    found = [secret(user)]
    changed = user.webhook_secret_changed_at
    if changed is not None and timezone.now() - changed < OVERLAP:
        found.append(secret(user, number=user.webhook_secret_number - 1))
    return found


def signed_headers(delivery: WebhookDelivery, *, at: int) -> dict[str, str]:
    """`at`: when it is sent, in unix seconds; receivers refuse what is minutes old."""
    name = message_id(delivery)
    content = f"{name}.{at}.{delivery.body}".encode()
    keys = secrets_in_force(delivery.owner) if delivery.owner else []
    signatures = []
    for text in keys:
        key = base64.b64decode(text.removeprefix("whsec_"))
        digest = hmac.digest(key, content, hashlib.sha256)
        signatures.append(f"v1,{base64.b64encode(digest).decode()}")
    return {
        "content-type": "application/json",
        "user-agent": "mlops-webhooks/1",
        "webhook-id": name,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(signatures),
    }


def message_id(delivery: WebhookDelivery) -> str:
    return f"msg_{delivery.pk.hex}"


def _wanted(hook: Webhook, kind: str) -> bool:
    """Without kinds all are meant, but for those of which there are thousands an hour."""
    quiet = {child.KIND for child in Job.__subclasses__() if not child.TRACKED}
    return kind in (hook.kinds or {kind} - quiet)


def deliveries_create(job: Job) -> int:
    """A message for each address that wants to know of the job's end; returns how many."""
    event = f"job.{job.status}"
    hooks = []
    if job.owner_id is not None:
        hooks = [
            hook
            for hook in Webhook.objects.filter(owner=job.owner_id, enabled=True)
            if event in (hook.events or EVENTS) and _wanted(hook, job.kind)
        ]
    targets: list[tuple[Webhook | None, str]] = [(hook, hook.url) for hook in hooks]
    if job.webhook_url:
        targets.append((None, job.webhook_url))
    if not targets:
        return 0
    body = json.dumps(message(job, event), ensure_ascii=False, separators=(",", ":"))
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            owner_id=job.owner_id,
            webhook=hook,
            job_id=job.pk,
            url=url,
            event=event,
            body=body,
            next_at=Now(),
        )
        for hook, url in targets
    )
    return len(targets)


def message(job: Job, event: str) -> dict[str, Any]:
    """The body; `data.path` is where the API shows the job."""
    specific = job.specific()
    ended = job.finished_at or timezone.now()
    return {
        "type": event,
        "timestamp": ended.isoformat(),
        "data": {
            "id": str(job.pk),
            "kind": job.kind,
            "status": job.status,
            "path": specific.get_absolute_url() if type(specific) is not Job else None,
            "progress": {"done": job.progress_done, "total": job.progress_total},
            "error": {"code": job.error_code, "message": job.error} if job.error else None,
            "created_at": job.created_at.isoformat(),
            "started_at": job.started_at.isoformat() if job.started_at else None,
            "finished_at": ended.isoformat(),
        },
    }
