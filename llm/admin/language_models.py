"""Language models in the console: which may be called, and which are in whose memory."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display as column

from llm.admin.forms import LanguageModelForm
from llm.models import LanguageModel, ModelInstance
from llm.services.models import model_unload, model_warm
from mlops import display

VARIANTS = {
    ModelInstance.State.READY: "success",
    ModelInstance.State.LOADING: "info",
    ModelInstance.State.FAILED: "danger",
}
# As many rows as a page of the list shows.
MOST_FOLLOWED = 200


class AdapterInline(TabularInline):
    """The LoRA adapters on this model; each is called by its own name."""

    model = LanguageModel
    fk_name = "base"
    fields = ("name", "source", "enabled")
    extra = 0
    show_change_link = True
    verbose_name = "adapter"
    verbose_name_plural = "adapters"


@admin.register(LanguageModel)
class LanguageModelAdmin(ModelAdmin):
    form = LanguageModelForm
    list_display = ("title", "state", "memory", "open_requests", "task", "flags", "changed")
    list_filter = ("enabled", "warm", "task", "engine", ("base", admin.EmptyFieldListFilter))
    search_fields = ("name", "source", "notes")
    list_select_related = ("base",)
    actions = ("warm_selected", "unload_selected", "enable_selected", "disable_selected")
    change_form_template = "llm/model_change_form.html"
    live_cells = ("state", "memory", "open_requests")
    warn_unsaved_form = True

    class Media:
        css: ClassVar = {"all": ["llm/console.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        fresh = ModelInstance.objects.order_by("worker")
        return (
            super()
            .get_queryset(request)
            .prefetch_related(Prefetch("instances", fresh), Prefetch("base__instances", fresh))
        )

    def get_fieldsets(
        self, request: HttpRequest, obj: LanguageModel | None = None
    ) -> list[tuple[str | None, dict[str, Any]]]:
        return [
            (None, {"fields": ("name", "source", ("task", "base"), ("enabled", "warm"))}),
            (
                "How it runs",
                {
                    "fields": (
                        ("engine", "queue"),
                        ("dtype", "device"),
                        ("quantization", "context_length"),
                        "options",
                        "chat_template",
                    )
                },
            ),
            ("What is kept", {"fields": (("store_texts", "trace"), "notes")}),
        ]

    def get_inlines(
        self, request: HttpRequest, obj: LanguageModel | None
    ) -> list[type[TabularInline]]:
        return [AdapterInline] if obj is not None and obj.base_id is None else []

    # -- columns ------------------------------------------------------------------------------

    @column(description="Model", ordering="name")
    def title(self, model: LanguageModel) -> SafeString:
        below = f"adapter on {model.base.name}" if model.base else model.source or model.engine
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle console-ellipsis" title="{1}">{1}</span>',
            model.name,
            below,
        )

    @column(description="In memory")
    def state(self, model: LanguageModel) -> SafeString:
        return self._live(model, "state", state_labels(model))

    @column(description="Memory")
    def memory(self, model: LanguageModel) -> SafeString:
        size = sum(one.memory_bytes for one in _ready(model))
        shown = filesizeformat(size) if size and model.base is None else display.NOTHING
        return self._live(model, "memory", shown)

    @column(description="Requests now")
    def open_requests(self, model: LanguageModel) -> SafeString:
        count = sum(one.active_requests for one in _ready(model))
        return self._live(model, "open_requests", f"{count:,}" if count else "0")

    @column(description="May be called")
    def flags(self, model: LanguageModel) -> SafeString:
        enabled = model.enabled and (model.base is None or model.base.enabled)
        labels = [display.label("enabled", "success") if enabled else display.label("disabled")]
        if model.warm:
            labels.append(display.label("kept warm", "warning"))
        return SafeString(" ".join(labels))

    @column(description="Changed", ordering="changed_at")
    def changed(self, model: LanguageModel) -> str:
        return display.moment(model.changed_at)

    def _live(self, model: LanguageModel, cell: str, html: str) -> SafeString:
        """Followed for as long as the page is open: a model may be loaded at any time."""
        return format_html(
            '<span class="live-cell" data-job="{}" data-cell="{}" data-source="{}">{}</span>',
            model.pk,
            cell,
            reverse("admin:llm_languagemodel_state"),
            html,
        )

    # -- actions ------------------------------------------------------------------------------

    @admin.action(description="Keep warm: workers load it now", permissions=["change"])
    def warm_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        for model in models:
            model_warm(model=model)
        self._tell(request, len(models), "kept warm; workers of its queue load it in seconds")

    @admin.action(description="Unload: give the memory back", permissions=["change"])
    def unload_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        for model in models:
            model_unload(model=model)
        self._tell(request, len(models), "unloaded once idle; the next request loads it again")

    @admin.action(description="Enable", permissions=["change"])
    def enable_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        self._tell(request, models.update(enabled=True), "may be called")

    @admin.action(description="Disable", permissions=["change"])
    def disable_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        self._tell(request, models.update(enabled=False), "refused from now on (404)")

    def _tell(self, request: HttpRequest, count: int, done: str) -> None:
        noun = "model" if count == 1 else "models"
        self.message_user(request, f"{count} {noun}: {done}.", messages.SUCCESS)

    # -- pages --------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.state_view)
        return [path("state/", view, name="llm_languagemodel_state"), *super().get_urls()]

    def state_view(self, request: HttpRequest) -> JsonResponse:
        """`?ids=1,2`: the live cells of these models anew."""
        wanted = request.GET.get("ids", "").split(",")[:MOST_FOLLOWED]
        ids = [int(text) for text in wanted if text.isdecimal()]
        models = self.get_queryset(request).filter(pk__in=ids).select_related("base")
        cells = {
            str(model.pk): {name: getattr(self, name)(model) for name in self.live_cells}
            for model in models
            if self.has_view_permission(request, model)
        }
        response = JsonResponse({"cells": cells})
        response["Cache-Control"] = "no-store"
        return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        model = self.get_object(request, object_id) if object_id else None
        extra: dict[str, Any] = {}
        if model:
            extra["instances"] = [_instance_row(one) for one in model.root.instances.all()]
            extra["playground_url"] = f"{reverse('llm-playground')}?model={model.name}"
            extra["may_play"] = request.user.has_perm("llm.add_generationjob")
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))


def state_labels(model: LanguageModel) -> SafeString:
    """What workers make of it, a label a state; why it failed stands in the label's title."""
    found = list(model.root.instances.all())
    if not found:
        return display.label("not loaded")
    labels = []
    for state in (ModelInstance.State.READY, ModelInstance.State.LOADING):
        count = sum(one.state == state for one in found)
        if count:
            text = state.label if count == 1 else f"{state.label} in {count} workers"
            labels.append((display.label(text, VARIANTS[state]), ""))
    for one in found:
        if one.state == ModelInstance.State.FAILED:
            labels.append((display.label("failed", "danger"), one.error))
    return format_html_join(" ", '<span title="{1}">{0}</span>', labels)


def _ready(model: LanguageModel) -> list[ModelInstance]:
    return [one for one in model.root.instances.all() if one.state == ModelInstance.State.READY]


def _instance_row(one: ModelInstance) -> dict[str, Any]:
    return {
        "worker": one.worker,
        "state": display.label(one.get_state_display(), VARIANTS[one.state]),
        "device": one.device or display.NOTHING,
        "memory": filesizeformat(one.memory_bytes) if one.memory_bytes else display.NOTHING,
        "requests": one.active_requests,
        "loaded": display.moment(one.loaded_at),
        "seen": display.moment(one.seen_at),
        "error": one.error,
    }
