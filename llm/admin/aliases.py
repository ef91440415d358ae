"""Aliases in the console: names that share their requests among models by weight."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display as column

from llm.models import AliasTarget, ModelAlias
from mlops import display


class TargetInline(TabularInline):
    model = AliasTarget
    fields = ("model", "weight", "share")
    readonly_fields = ("share",)
    extra = 0
    min_num = 1
    verbose_name = "target"
    verbose_name_plural = "targets: of every 100 requests, how many go where"

    @column(description="Share")
    def share(self, target: AliasTarget) -> SafeString | str:
        if target.pk is None:
            return display.NOTHING
        weights = target.alias.targets.values_list("weight", flat=True)
        return share_bar(target.weight, sum(weights))


@admin.register(ModelAlias)
class ModelAliasAdmin(ModelAdmin):
    list_display = ("name", "shares", "created")
    search_fields = ("name", "targets__model__name")
    inlines = (TargetInline,)
    fields = ("name",)

    class Media:
        css: ClassVar = {"all": ["llm/console.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelAlias]:
        return super().get_queryset(request).prefetch_related("targets__model")

    @column(description="Targets")
    def shares(self, alias: ModelAlias) -> SafeString | str:
        targets = list(alias.targets.all())
        total = sum(target.weight for target in targets)
        if not targets:
            return display.label("no target", "danger")
        rows = ((target.model.name, share_bar(target.weight, total)) for target in targets)
        return format_html_join(
            "", '<span class="alias-share"><span class="console-ellipsis">{}</span>{}</span>', rows
        )

    @column(description="Created", ordering="created_at")
    def created(self, alias: ModelAlias) -> str:
        return display.moment(alias.created_at)


def share_bar(weight: int, total: int) -> SafeString:
    return format_html(
        '<span class="job-progress"><progress max="{}" value="{}" aria-label="Share"></progress>'
        "<span>{}</span></span>",
        total or 1,
        weight,
        display.percent(weight / total if total else 0.0),
    )
