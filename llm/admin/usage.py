"""The console's page of usage: tokens a day by model, and who used them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from llm import usage_chart
from llm.models import Usage
from mlops import display

PERIODS = {"7": "Last 7 days", "30": "Last 30 days", "90": "Last 90 days"}
DEFAULT_PERIOD = "30"
DELETED = "(deleted)"
SHOWN = 200


@admin.register(Usage)
class UsageAdmin(ModelAdmin):
    """Usage is looked at as sums: there is this page, and none of a single row."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Usage | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.usage_view)
        return [path("", view, name="llm_usage_changelist")]

    def usage_view(self, request: HttpRequest) -> HttpResponse:
        """Own usage; everybody's for those who see all."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("period", DEFAULT_PERIOD)
        chosen = chosen if chosen in PERIODS else DEFAULT_PERIOD
        last = datetime.now(UTC).date()
        first = last - timedelta(days=int(chosen) - 1)
        rows = Usage.objects.filter(day__gte=first)
        if not request.user.sees_all:
            rows = rows.filter(owner=request.user)
        user = request.GET.get("user", "") if request.user.sees_all else ""
        users = sorted(set(rows.order_by().values_list("owner__username", flat=True)) - {None})
        if user:
            rows = rows.filter(owner__username=user)
        context = {
            **self.admin_site.each_context(request),
            "title": "Usage",
            "opts": Usage._meta,
            "filters": _filters(chosen, user, users if request.user.sees_all else []),
            "total": _total(rows),
            "chart": usage_chart.bars(_daily(rows), first=first, last=last),
            "groups": _groups(rows),
        }
        return render(request, "llm/usage.html", context)


def _filters(period: str, user: str, users: list[str]) -> list[dict[str, Any]]:
    found = [{"label": "Time", "name": "period", "value": period, "options": list(PERIODS.items())}]
    if users:
        options = [("", "All"), *((name, name) for name in users)]
        found.append({"label": "User", "name": "user", "value": user, "options": options})
    return found


def _total(rows: QuerySet[Usage]) -> dict[str, str] | None:
    found = rows.aggregate(
        requests=Sum("requests"), prompt=Sum("prompt_tokens"), completion=Sum("completion_tokens")
    )
    return {name: f"{value:,}" for name, value in found.items()} if found["requests"] else None


def _daily(rows: QuerySet[Usage]) -> list[dict[str, Any]]:
    days = rows.order_by().values("day", "model__name")
    summed = days.annotate(tokens=Sum(F("prompt_tokens") + F("completion_tokens")))
    return [
        {"day": row["day"], "model": row["model__name"] or DELETED, "tokens": row["tokens"]}
        for row in summed
    ]


def _groups(rows: QuerySet[Usage]) -> list[dict[str, Any]]:
    """By model, user and key, the most tokens first."""
    names = ("model__name", "owner__username", "api_key__name", "api_key__token_key")
    summed = rows.order_by().values(*names)
    summed = summed.annotate(
        sent=Sum("requests"),
        prompt=Sum("prompt_tokens"),
        completion=Sum("completion_tokens"),
    )
    return [
        {
            "model": row["model__name"] or DELETED,
            "user": row["owner__username"] or display.NOTHING,
            "key": row["api_key__name"] or row["api_key__token_key"] or "console",
            "requests": row["sent"],
            "prompt": row["prompt"],
            "completion": row["completion"],
        }
        for row in sorted(summed, key=lambda row: -(row["prompt"] + row["completion"]))[:SHOWN]
    ]
