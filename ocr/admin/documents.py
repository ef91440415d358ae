"""Documents in the console: listed, looked through, deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column

from mlops import display
from ocr import services, viewer
from ocr.admin.gallery import gallery, job_row
from ocr.admin.intake import IntakeAdmin
from ocr.models import Document, OcrJob, PageResult


@admin.register(Document)
class DocumentAdmin(IntakeAdmin):
    list_display = ("thumbnail", "title", "pages", "type", "weight", "owner", "latest", "created")
    list_display_links = ("thumbnail", "title")
    list_filter = ("media_type", "source", "created_at", "owner")
    search_fields = ("name", "sha256", "id")
    list_select_related = ("owner",)
    list_per_page = 50
    actions = ("run_ocr",)
    view_on_site = False
    change_list_template = "ocr/document_change_list.html"
    change_form_template = "ocr/document_change_form.html"
    show_add_link = False

    # -- who may do what ----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Document]:
        jobs = OcrJob.objects.visible_to(request.user).order_by("-created_at")
        documents = super().get_queryset(request).visible_to(request.user)
        return documents.prefetch_related(Prefetch("jobs", jobs[:1], to_attr="latest_jobs"))

    def has_change_permission(self, request: HttpRequest, obj: Document | None = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return [name for name in self.list_display if name != "owner" or request.user.sees_all]

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return [name for name in self.list_filter if name != "owner" or request.user.sees_all]

    # -- columns ------------------------------------------------------------------------------

    @column(description="")
    def thumbnail(self, document: Document) -> SafeString:
        url = reverse("admin:ocr_document_page_image", args=[document.pk, 1])
        return format_html(
            '<img class="thumb" src="{}?max_side=96" alt="" loading="lazy" decoding="async">', url
        )

    @column(description="Name", ordering="name")
    def title(self, document: Document) -> SafeString:
        return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', document.name)

    @column(description="Pages", ordering="page_count")
    def pages(self, document: Document) -> int:
        return document.page_count

    @column(description="Type", ordering="media_type")
    def type(self, document: Document) -> str:
        return document.extension.lstrip(".").upper()

    @column(description="Size", ordering="size")
    def weight(self, document: Document) -> str:
        return filesizeformat(document.size)

    @column(description="Created", ordering="created_at")
    def created(self, document: Document) -> str:
        return display.moment(document.created_at)

    @column(description="Latest job")
    def latest(self, document: Document) -> SafeString | str:
        if not document.latest_jobs:
            return display.label("not read yet")
        job = document.latest_jobs[0]
        source = reverse("admin:ocr_ocrjob_progress")
        status = display.live(job, "status_label", display.status_label(job), source)
        return format_html('<a href="{}">{}</a>', display.job_url(job), status)

    @column(description="SHA-256")
    def digest(self, document: Document) -> SafeString:
        return format_html("<code>{}</code>", document.sha256)

    @column(description="File")
    def download(self, document: Document) -> SafeString:
        return display.link(reverse("document-file", args=[document.pk]), "download the original")

    def get_fieldsets(self, request: HttpRequest, obj: Document | None = None) -> list[Any]:
        rows = (("pages", "owner"), ("type", "source"), ("weight", "created"))
        return [(None, {"fields": (*rows, "download", "digest")})]

    # -- one document -------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("run/", view(self.run_view), name="ocr_document_run"),
            path(
                "<uuid:document_id>/pages/<int:number>/image",
                view(viewer.document_page_image),
                name="ocr_document_page_image",
            ),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        document = self.get_object(request, object_id)
        extra: dict[str, Any] = {"may_run": self.has_run_permission(request)}
        if document:
            jobs = OcrJob.objects.visible_to(request.user).filter(document=document)
            extra["jobs"] = [job_row(job) for job in jobs.order_by("-created_at")[:10]]
            extra["gallery"] = gallery(request, document, jobs.order_by("-created_at").first())
        return super().change_view(request, object_id, form_url, extra | (extra_context or {}))

    # -- delete -------------------------------------------------------------------------------

    def delete_model(self, request: HttpRequest, obj: Document) -> None:
        services.document_delete(document=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Document]) -> None:
        for document in queryset:
            services.document_delete(document=document)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Who may delete a document may delete what was read in it."""
        jobs = OcrJob.objects.filter(document__in=objs)
        counts = {
            "documents": len(objs),
            "OCR jobs": jobs.count(),
            "pages read": PageResult.objects.filter(job__in=jobs).count(),
        }
        return [str(document) for document in objs], counts, set(), []
