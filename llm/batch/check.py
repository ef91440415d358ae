"""Whether a batch may go on: its lease, its cancel, its time."""

from __future__ import annotations

import time

from django.utils import timezone

from llm.models import LlmBatch
from mlops.exceptions import JobCancelled
from mlops.jobs import JobContext

LOOK_SECONDS = 0.5


class Expired(Exception):
    """The batch's time is over."""


class Check:
    """Whether the batch may go on, looked up now and then."""

    def __init__(self, batch: LlmBatch, context: JobContext) -> None:
        self.batch, self.context = batch, context
        self._looked = -LOOK_SECONDS

    def __call__(self) -> None:
        """Raises JobCancelled, Expired, LeaseLost or WorkerStopping."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self.context.check()
        if LlmBatch.objects.filter(pk=self.batch.pk, cancelling_at__isnull=False).exists():
            raise JobCancelled
        if timezone.now() >= self.batch.expires_at:
            raise Expired
