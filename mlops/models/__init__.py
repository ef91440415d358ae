"""The rows that every app shares: users, API keys, jobs, webhooks, and signs of life."""

from mlops.models.accounts import ApiKey, User
from mlops.models.jobs import Job, JobQuerySet
from mlops.models.pulses import QueuePulse
from mlops.models.requests import IdempotencyKey
from mlops.models.webhooks import Webhook, WebhookDelivery

__all__ = [
    "ApiKey",
    "IdempotencyKey",
    "Job",
    "JobQuerySet",
    "QueuePulse",
    "User",
    "Webhook",
    "WebhookDelivery",
]
