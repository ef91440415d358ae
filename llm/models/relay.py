"""Reply streams in the database, for installations without Redis."""

from __future__ import annotations

from django.db import models


class RelayEntry(models.Model):
    """Events for the requests of one web process; deleted once it has read them."""

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=100)
    # As `llm.relay.wire` has them.
    events = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        indexes = [models.Index(fields=["stream", "id"], name="relay_stream")]

    def __str__(self) -> str:
        return f"{self.stream} {self.id}"
