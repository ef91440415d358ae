"""The console's pages of the core: jobs, users, keys, queues. Split by noun."""

from mlops.admin import jobs, keys, records, users, webhooks

__all__ = ["jobs", "keys", "records", "users", "webhooks"]
