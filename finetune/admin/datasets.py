"""Datasets in the console: listed, imported, their versions."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column

from finetune import services
from finetune.admin.forms import UploadForm
from finetune.admin.from_extractions import from_extractions_view
from finetune.admin.from_reviews import from_reviews_view
from finetune.models import Dataset, DatasetVersion
from llm.models import StoredFile
from mlops import display
from mlops.exceptions import ApplicationError

IMPORTS = 10


def state_label(state: str) -> SafeString:
    shown = DatasetVersion.State(state)
    return display.label(shown.label, "success" if shown == "ready" else "danger")


@admin.register(Dataset)
class DatasetAdmin(ModelAdmin):
    list_display = ("title", "kind_of", "latest", "rows", "tokens", "state", "owner", "created")
    list_filter = ("kind", "created_at")
    search_fields = ("name", "description", "id")
    list_select_related = ("owner",)
    list_per_page = 50
    view_on_site = False
    show_add_link = False
    change_list_template = "finetune/dataset_change_list.html"
    change_form_template = "finetune/dataset_change_form.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css", "finetune/dataset.css"]}

    # -- who may do what ----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        newest = DatasetVersion.objects.filter(dataset=OuterRef("pk")).order_by("-number")
        datasets = super().get_queryset(request).visible_to(request.user)
        return datasets.annotate(
            **{f"last_{name}": Subquery(newest.values(name)[:1]) for name in SHOWN}
        )

    def has_change_permission(self, request: HttpRequest, obj: Dataset | None = None) -> bool:
        return False

    # -- columns ------------------------------------------------------------------------------

    @column(description="Name", ordering="name")
    def title(self, dataset: Dataset) -> SafeString:
        return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', dataset.name)

    @column(description="Kind", ordering="kind")
    def kind_of(self, dataset: Dataset) -> str:
        return dataset.get_kind_display() or display.NOTHING

    @column(description="Version")
    def latest(self, dataset: Dataset) -> str:
        return f"v{dataset.last_number}" if dataset.last_number else display.NOTHING

    @column(description="Rows")
    def rows(self, dataset: Dataset) -> str:
        return display.NOTHING if dataset.last_rows is None else f"{dataset.last_rows:,}"

    @column(description="Tokens")
    def tokens(self, dataset: Dataset) -> str:
        return display.NOTHING if dataset.last_tokens is None else f"{dataset.last_tokens:,}"

    @column(description="State")
    def state(self, dataset: Dataset) -> SafeString:
        if dataset.last_state is None:
            return display.label("no version yet")
        return state_label(dataset.last_state)

    @column(description="Created", ordering="created_at")
    def created(self, dataset: Dataset) -> str:
        return display.moment(dataset.created_at)

    # -- one dataset --------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Dataset | None = None) -> list[Any]:
        return [(None, {"fields": (("kind_of", "owner"), ("created", "description"))})]

    def get_readonly_fields(self, request: HttpRequest, obj: Dataset | None = None) -> list[str]:
        return ["kind_of", "created"]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        dataset = self.get_object(request, object_id)
        extra: dict[str, Any] = {}
        if dataset:
            versions = dataset.versions.defer("report", "pins")
            jobs = dataset.imports.order_by("-created_at")
            extra["versions"] = [version_row(version) for version in versions]
            extra["imports"] = [
                {
                    "job": job,
                    "status": display.status_label(job),
                    "url": reverse("admin:finetune_datasetimport_change", args=[job.pk]),
                    "created": display.moment(job.created_at),
                }
                for job in jobs[:IMPORTS]
            ]
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("from-reviews/", view(from_reviews_view), name="finetune_dataset_from_reviews"),
            path(
                "from-extractions/",
                view(from_extractions_view),
                name="finetune_dataset_from_extractions",
            ),
            *super().get_urls(),
        ]

    # -- import -------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        sent = request.method == "POST"
        initial = {"name": request.GET.get("name", "")}
        files = StoredFile.objects.visible_to(request.user).unexpired()
        files = files.filter(purpose=StoredFile.Purpose.FINE_TUNE)
        given = (request.POST, request.FILES) if sent else ()
        form = UploadForm(*given, files=files, initial=initial)
        if sent and form.is_valid():
            options = form.options()
            try:
                job = services.dataset_import(owner=request.user, **options)
            except ApplicationError as error:
                form.add_error(form.field_at_fault(error.param), error.message)
            else:
                self.message_user(request, f"{job.source} is being imported.", messages.SUCCESS)
                return redirect("admin:finetune_datasetimport_change", job.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": "Import a dataset",
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
        }
        return render(request, "finetune/import.html", context)

    # -- delete -------------------------------------------------------------------------------

    def delete_model(self, request: HttpRequest, obj: Dataset) -> None:
        services.dataset_delete(dataset=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Dataset]) -> None:
        for dataset in queryset:
            services.dataset_delete(dataset=dataset)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Who may delete a dataset may delete its versions."""
        counts = {
            "datasets": len(objs),
            "versions": DatasetVersion.objects.filter(dataset__in=objs).count(),
        }
        return [str(dataset) for dataset in objs], counts, set(), []


# Of the newest version, in the list.
SHOWN = ("number", "rows", "tokens", "state")


def version_row(version: DatasetVersion) -> dict[str, Any]:
    return {
        "version": version,
        "url": reverse("admin:finetune_datasetversion_change", args=[version.pk]),
        "state": state_label(version.state),
        "created": display.moment(version.created_at),
    }
