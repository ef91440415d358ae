"""Webhooks: whom to tell of ended jobs, and what became of each message."""

from __future__ import annotations

import uuid
from typing import Self

from django.conf import settings
from django.db import models

from mlops.models.accounts import User


class OwnedQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if user.sees_all else self.filter(owner=user)


class Webhook(models.Model):
    """An address that is told when a job of its owner ends; of a batch as one, not of its parts.

    `events` and `kinds` narrow that down; empty means all.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhooks"
    )
    url = models.URLField(max_length=500)
    events = models.JSONField(default=list, blank=True, help_text="job.succeeded, job.failed …")
    kinds = models.JSONField(default=list, blank=True, help_text="ocr.extract_text, ocr.batch …")
    enabled = models.BooleanField(default=True)
    note = models.CharField(max_length=200, blank=True, help_text="why it was turned off")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One message to one address; `id` is its `webhook-id`, the same at each attempt.

    pending -> delivered | failed (no attempts left, or the address is refused);
    delivered, failed -> pending (sent again by hand)
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    webhook = models.ForeignKey(
        Webhook, null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    job = models.ForeignKey(
        "mlops.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    url = models.URLField(max_length=500)
    event = models.CharField(max_length=50)
    body = models.TextField(help_text="the JSON that is signed and sent")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    response_status = models.PositiveSmallIntegerField(null=True, blank=True)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["status", "next_at"], name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.event} to {self.url}"
