"""Signs of life."""

from __future__ import annotations

from django.db import models


class QueuePulse(models.Model):
    """When a message was last consumed from a queue: proof of a worker that works, not of a pid."""

    queue = models.CharField(max_length=50, primary_key=True)
    seen_at = models.DateTimeField()
    worker = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.queue} {self.seen_at}"
