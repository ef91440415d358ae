"""Versions of models in the console: what they are, where they come from, who calls them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column

from finetune.card_html import card_html
from finetune.models import ModelVersion, TrainingJob
from finetune.recogniser_view import recogniser_view
from finetune.selectors import may_promote
from finetune.services import versions as services
from finetune.services.merges import version_merge
from finetune.training_view import fitness_label, size
from llm.models import AliasTarget
from mlops import display
from mlops.exceptions import ApplicationError

SIDES = {
    "reloaded": "Its files, read anew",
    "served": "As it is served",
    "onnx": "Its ONNX file",
}


@admin.register(ModelVersion)
class ModelVersionAdmin(ModelAdmin):
    list_display = (
        *("title", "fitness_of", "called", "form", "data", "size_of", "owner", "created"),
    )
    list_filter = ("fitness", "form", "created_at", "owner")
    list_select_related = ("owner", "language_model", "base", "dataset_version__dataset")
    search_fields = ("name", "id", "language_model__name", "owner__username")
    ordering = ("-created_at",)
    list_per_page = 50
    view_on_site = False

    class Media:
        css: ClassVar = {
            "all": ["ocr/console.css", "finetune/dataset.css", "finetune/training.css"]
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelVersion]:
        return super().get_queryset(request).visible_to(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There is a button on its page, which says what stands in the way."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("finetune.view_modelversion")

    # -- columns ------------------------------------------------------------------------------

    @column(description="Version", ordering="name")
    def title(self, version: ModelVersion) -> SafeString:
        return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', version)

    @column(description="Parity", ordering="fitness")
    def fitness_of(self, version: ModelVersion) -> SafeString:
        return fitness_label(version)

    @column(description="Called by")
    def called(self, version: ModelVersion) -> SafeString | str:
        name = ", ".join(version.called_by)
        if not name:
            return display.NOTHING
        return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', name)

    @column(description="Data")
    def data(self, version: ModelVersion) -> str:
        return str(version.facts.get("dataset") or display.NOTHING)

    @column(description="Size")
    def size_of(self, version: ModelVersion) -> str:
        return size(version.bytes)

    @column(description="Created", ordering="created_at")
    def created(self, version: ModelVersion) -> str:
        return display.moment(version.created_at)

    # -- one version --------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/change/", view(self.version_view), name="finetune_modelversion_change"),
            path(
                "<uuid:pk>/promote/", view(self.promote_view), name="finetune_modelversion_promote"
            ),
            path("<uuid:pk>/merge/", view(self.merge_view), name="finetune_modelversion_merge"),
            path("<uuid:pk>/remove/", view(self.remove_view), name="finetune_modelversion_remove"),
            *super().get_urls(),
        ]

    def version_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        context = {
            **self.admin_site.each_context(request),
            "title": str(version),
            "opts": self.opts,
            "media": self.media,
            "version": version,
            "fitness": fitness_label(version),
            "card": card_html(version.card),
            "lineage": _lineage(version),
            "sides": _sides(version),
            "recogniser": recogniser_view(version),
            "files": [
                {
                    "name": name,
                    "bytes": size(count),
                    "url": reverse("modelversion-file", args=[version.pk, name]),
                }
                for name, (count, _digest) in sorted(version.files.items())
            ],
            "size": size(version.bytes),
            "created": display.moment(version.created_at),
            "registered": display.moment(version.registered_at),
            "targets": _targets(version),
            "may_promote": version.called_by and may_promote(request.user, version),
            "may_merge": version.form == ModelVersion.Form.ADAPTER
            and version.base is not None
            and self._may_change(request, version),
            "merges": _merges(version),
            "may_delete": self._may_delete(request, version),
        }
        return render(request, "finetune/model_version.html", context)

    def promote_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        if not may_promote(request.user, version):
            raise PermissionDenied
        text = request.POST.get("weight", "")
        weight = int(text) if text.isdecimal() and len(text) < 4 else 0
        return self._do(
            request,
            lambda: services.version_promote(version=version, weight=weight),
            f"{weight} % of the requests to {version.name} go to {version} from now on.",
            version,
        )

    def merge_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """Begins the job, whose page shows how it goes."""
        version = self._version(request, pk)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self._may_change(request, version):
            raise PermissionDenied
        try:
            job = version_merge(
                owner=request.user, version=version, name=request.POST.get("name", "").strip()
            )
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect("admin:finetune_modelversion_change", pk)
        return redirect("admin:finetune_versionmerge_change", job.pk)

    def remove_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        if not self._may_delete(request, version):
            raise PermissionDenied
        return self._do(
            request,
            lambda: services.version_delete(version=version),
            f"{version} has been deleted.",
            version,
        )

    def _do(
        self, request: HttpRequest, act: Callable[[], object], done: str, version: ModelVersion
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        pk = version.pk
        try:
            act()
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, done, messages.SUCCESS)
        if ModelVersion.objects.filter(pk=pk).exists():
            return redirect("admin:finetune_modelversion_change", pk)
        return redirect("admin:finetune_modelversion_changelist")

    def _may_change(self, request: HttpRequest, version: ModelVersion) -> bool:
        own = version.owner_id == request.user.pk
        return own or request.user.has_perm("finetune.change_modelversion")

    def _may_delete(self, request: HttpRequest, version: ModelVersion) -> bool:
        own = version.owner_id == request.user.pk
        return own or request.user.has_perm("finetune.delete_modelversion")

    def _version(self, request: HttpRequest, pk: uuid.UUID) -> ModelVersion:
        if not self.has_view_permission(request):
            raise PermissionDenied
        versions = self.get_queryset(request).select_related(
            "owner", "base", "language_model", "dataset_version__dataset", "job", "merged_from"
        )
        return get_object_or_404(versions, pk=pk)


def _lineage(version: ModelVersion) -> list[dict[str, str]]:
    """From data to what requests call; what has been deleted since is named only."""
    steps = []
    data, job = version.dataset_version, version.job
    if data is not None:
        url = reverse("admin:finetune_datasetversion_change", args=[data.pk])
        steps.append(_step("Data", "dataset", str(data), f"{data.rows:,} rows", url))
    elif version.facts.get("dataset"):
        steps.append(_step("Data", "dataset", str(version.facts["dataset"]), "deleted since"))
    if version.base is not None:
        url = reverse("admin:llm_languagemodel_change", args=[version.base_id])
        steps.append(_step("Base", "network_intelligence", version.base.name, "", url))
    if job is not None:
        url = reverse("admin:finetune_trainingjob_change", args=[job.pk])
        seconds = display.duration(job.seconds)
        steps.append(_step("Training", "model_training", job.get_method_display(), seconds, url))
    elif method := version.facts.get("method"):
        words = TrainingJob.Method(method).label
        steps.append(_step("Training", "model_training", words, "deleted since"))
    if version.merged_from is not None:
        url = reverse("admin:finetune_modelversion_change", args=[version.merged_from_id])
        steps.append(_step("Merged from", "merge", str(version.merged_from), "", url))
    steps.append(_step("Version", "deployed_code", str(version), version.get_form_display()))
    if version.language_model is not None:
        url = reverse("admin:llm_languagemodel_change", args=[version.language_model_id])
        steps.append(_step("Called by", "chat", version.language_model.name, "", url))
    elif names := version.called_by:
        steps.append(_step("Read with", "document_scanner", ", ".join(names), ""))
    return steps


def _step(title: str, icon: str, name: str, hint: str, url: str = "") -> dict[str, str]:
    return {"title": title, "icon": icon, "name": name, "hint": hint, "url": url}


def _sides(version: ModelVersion) -> list[dict[str, Any]]:
    """The parity check, a row a side."""
    found = version.parity
    rows = []
    for name, title in SIDES.items():
        side = found.get(name)
        if side:
            largest = side.get("max_difference")
            tolerance = found.get(f"{name}_tolerance", found.get("tolerance"))
            rows.append(
                {
                    "title": title,
                    "largest": display.NOTHING if largest is None else f"{largest:.2g}",
                    "tolerance": tolerance,
                    "agree": side.get("agree", False),
                    "message": side.get("message", ""),
                }
            )
    return rows


def _merges(version: ModelVersion) -> list[dict[str, Any]]:
    """The adapter's merges, the newest first."""
    return [
        {
            "url": reverse("admin:finetune_versionmerge_change", args=[job.pk]),
            "name": str(job.result or job.name),
            "status": display.status_label(job),
            "created": display.moment(job.created_at),
        }
        for job in version.merges.select_related("result").order_by("-created_at")
    ]


def _targets(version: ModelVersion) -> list[dict[str, Any]]:
    """Who answers requests to the version's name, in percent."""
    targets = list(
        AliasTarget.objects.filter(alias__name=version.name)
        .select_related("model")
        .order_by("-weight", "model__name")
    )
    total = sum(target.weight for target in targets) or 1
    return [
        {
            "model": target.model,
            "percent": f"{100 * target.weight / total:.3g} %",
            "own": target.model_id == version.language_model_id,
        }
        for target in targets
    ]
