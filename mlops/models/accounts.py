"""Users and API keys: who may come in."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now
from knox.models import AbstractAuthToken


class User(AbstractUser):
    """A person or a program that logs in. What they may do comes from groups (`mlops.roles`)."""

    # The secret that signs the user's webhooks is derived from this: a new number, a new secret.
    webhook_secret_number = models.PositiveIntegerField(default=0, editable=False)
    webhook_secret_changed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        permissions = [("view_all", "Can see everybody's documents and jobs")]

    @property
    def sees_all(self) -> bool:
        return self.has_perm("mlops.view_all")


class ApiKey(AbstractAuthToken):
    """A bearer key: stored as a hash, found by its indexed first characters, shown once."""

    name = models.CharField(max_length=100, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Of language models; empty: the settings' own.
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_day = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.token_key}… ({self.name or self.user})"

    def revoke(self) -> None:
        """From now on requests with this key are answered 401; the row stays as a record."""
        type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=Now())
        self.refresh_from_db(fields=["revoked_at"])
