"""What language models put on the console's dashboard."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db.models import F, Sum
from django.urls import reverse

from llm.models import LanguageModel, ModelInstance, Usage
from mlops.dashboard import Card
from mlops.models import User


def cards(user: User) -> list[Card]:
    """Which models are in memory, and what was asked of them today (by UTC, as quotas count)."""
    if not user.has_perm("llm.view_usage"):
        return []
    usage = Usage.objects.filter(day=datetime.now(UTC).date())
    if not user.sees_all:
        usage = usage.filter(owner=user)
    today = usage.aggregate(
        requests=Sum("requests"), tokens=Sum(F("prompt_tokens") + F("completion_tokens"))
    )
    ready = ModelInstance.objects.filter(state=ModelInstance.State.READY)
    loaded = ready.values("model").distinct().count()
    callable_ = LanguageModel.objects.callable().count()
    may_look = user.has_perm("llm.view_languagemodel")
    return [
        Card(
            "Models loaded",
            f"{loaded:,}",
            f"{callable_:,} may be called",
            "network_intelligence",
            reverse("admin:llm_languagemodel_changelist") if may_look else "",
        ),
        Card(
            "Tokens today",
            f"{today['tokens'] or 0:,}",
            f"in {today['requests'] or 0:,} requests",
            "data_usage",
            reverse("admin:llm_usage_changelist"),
        ),
    ]
