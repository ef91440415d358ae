"""What was used: one row a day, user, key and model, added to by every request."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import IntegrityError, transaction
from django.db.models import F

from llm.models import Usage


def usage_add(
    *,
    owner: int | None,
    api_key: str | None,
    model: int | None,
    prompt_tokens: int,
    completion_tokens: int,
    requests: int = 1,
) -> None:
    """Adds to today's row (UTC), by keys of rows; any number of workers may do so at once."""
    key = {
        "day": datetime.now(UTC).date(),
        "owner_id": owner,
        "api_key_id": api_key,
        "model_id": model,
    }
    counts = {
        "requests": requests,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }
    added = {name: F(name) + count for name, count in counts.items()}
    row = Usage.objects.filter(**key)
    if row.update(**added):
        return
    try:
        with transaction.atomic():
            Usage.objects.create(**key, **counts)
    except IntegrityError:
        # Another request was the day's first at the same moment.
        row.update(**added)
