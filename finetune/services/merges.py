"""Writes of merges: adapters that become whole models."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from finetune.merging import adapter_check
from finetune.models import ModelVersion, VersionMerge
from finetune.services.training import name_check, name_free
from mlops.exceptions import NotAllowed
from mlops.models import User
from mlops.services import job_enqueue, webhook_url_check
from ocr.job_rows import request_id, within

log = structlog.get_logger(__name__)


def version_merge(
    *,
    owner: User | None,
    version: ModelVersion,
    name: str = "",
    device: str = "auto",
    priority: int = 5,
    webhook_url: str = "",
    enqueue: bool = True,
) -> VersionMerge:
    """A job that merges the adapter into its base and checks what comes of it.

    `name`: of the new version; default: the next number of the same. Raises ApplicationError.
    """
    adapter_check(version)
    name = name or version.name
    name_check(name)
    name_free(owner, name)
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    if VersionMerge.objects.unfinished().filter(version=version, name=name).exists():
        raise NotAllowed(f"{version} is being merged already.", code="merge_under_way")
    job = VersionMerge(
        kind=VersionMerge.KIND,
        queue=VersionMerge.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        owner=owner,
        version=version,
        version_label=str(version),
        name=name,
        device=device,
        priority=priority,
        webhook_url=webhook_url,
        held=not enqueue,
        sent_at=Now() if enqueue else None,
        request_id=request_id(),
    )
    with transaction.atomic():
        job.save(force_insert=True)
        if enqueue:
            job_enqueue(job=job)
    log.info("merge_submitted", job_id=str(job.pk), version=str(version))
    return job
