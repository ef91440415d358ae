"""The console's page of quality: error rates of engines, and the pages behind them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin

from mlops import display
from ocr import quality_charts as charts
from ocr.models import PageScore
from ocr.quality import (
    RULES_TEXT,
    Interval,
    QualityFilter,
    quality_groups,
    quality_scores,
    quality_series,
    total,
    worst_scores,
)

WORST = 25
# How far back to look, in days; and how fine the line over time then is.
PERIODS: dict[str, tuple[str, int | None, Interval]] = {
    "30": ("Last 30 days", 30, "day"),
    "180": ("Last 6 months", 180, "week"),
    "365": ("Last year", 365, "week"),
    "all": ("All time", None, "month"),
}
DEFAULT_PERIOD = "180"


@admin.register(PageScore)
class QualityAdmin(ModelAdmin):
    """Scores are looked at as sums: there is this page, and none of a single row."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PageScore | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.quality_view)
        return [path("", view, name="ocr_pagescore_changelist")]

    def quality_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("period", DEFAULT_PERIOD)
        chosen = chosen if chosen in PERIODS else DEFAULT_PERIOD
        _name, days, interval = PERIODS[chosen]
        everything = quality_scores(request.user, QualityFilter())
        wanted = QualityFilter(
            engine=request.GET.get("engine", ""),
            language=request.GET.get("language", ""),
            since=_days_ago(days),
        )
        scores = quality_scores(request.user, wanted)
        groups = quality_groups(scores)
        colours = charts.chart_colours(groups)
        context = {
            **self.admin_site.each_context(request),
            "title": "Quality",
            "opts": PageScore._meta,
            "rules": RULES_TEXT,
            "any": everything.exists(),
            "review_url": reverse("admin:ocr_pagereview_changelist"),
            "filters": [
                _choice("Engine", "engine", wanted.engine, _values(everything, "engine")),
                _choice("Language", "language", wanted.language, _values(everything, "language")),
                {
                    "label": "Read",
                    "name": "period",
                    "value": chosen,
                    "options": [(value, entry[0]) for value, entry in PERIODS.items()],
                },
            ],
            "total": _shown(total(scores)),
            "groups": [_shown(row) for row in sorted(groups, key=lambda row: row["cer_micro"])],
            "left_out": max(0, len(groups) - charts.SHOWN),
            "bars": charts.bars(groups, colours),
            "bars_size": "small" if len(colours) < 4 else "large",
            "lines": charts.lines(quality_series(scores, interval), colours),
            "interval": interval,
            "worst": [_worst_row(score) for score in worst_scores(scores, WORST)],
        }
        return render(request, "ocr/quality.html", context)


def _days_ago(days: int | None) -> date | None:
    return timezone.localdate() - timedelta(days=days) if days else None


def _values(scores: Any, name: str) -> list[str]:
    return sorted(scores.order_by().values_list(name, flat=True).distinct())


def _choice(label: str, name: str, value: str, values: list[str]) -> dict[str, Any]:
    options = [("", "All"), *((one, one) for one in values)]
    return {"label": label, "name": name, "value": value, "options": options}


def _shown(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rates as people read them: in percent, the F1 too."""
    if row is None:
        return None
    rates = ("cer_micro", "cer_macro", "wer_micro", "wer_macro", "word_f1")
    return row | {name: display.percent(row[name]) for name in rates}


def _worst_row(score: PageScore) -> dict[str, Any]:
    result = score.result
    return {
        "score": score,
        "cer": display.percent(score.cer),
        "document": result.page.document.name,
        "number": result.page.number,
        "read": display.moment(score.read_at),
        "review": reverse("admin:ocr_review", args=[score.review.result_id]),
        "reading": reverse("admin:ocr_viewer", args=[result.job_id, result.page.number]),
        "failed": bool(result.error),
    }
