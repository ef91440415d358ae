"""Extractions in the console: asked for, followed, and their values beside the page."""

from __future__ import annotations

import json
import uuid
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display as column
from unfold.widgets import (
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
)

from llm.extraction_rows import RULES
from llm.extraction_view import extraction_state, neighbours
from llm.models import ExtractionBatch, ExtractionJob, ExtractionTemplate, LanguageModel
from llm.services import extractions as services
from mlops import display
from mlops.admin.job_base import JobAdminBase
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from ocr.admin.forms import FilesField
from ocr.models import Document

# As many documents as the form offers.
SHOWN = 200


class ExtractionForm(forms.Form):
    """Documents that are here or come now, a template, and what extracts."""

    files = FilesField(allow_empty_file=True, max_length=None, required=False)
    documents = forms.ModelMultipleChoiceField(
        queryset=Document.objects.none(),
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget({"data-placeholder": "the newest ones"}),
        label="Documents",
    )
    template = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    model = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget,
        required=False,
        help_text="The rules need no model; a language model follows the template's schema.",
    )

    def __init__(self, user: User, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        documents = Document.objects.visible_to(user)
        chosen = self.data.getlist("documents") if self.is_bound else more["initial"]["documents"]
        newest = documents.order_by("-created_at").values_list("pk", flat=True)[:SHOWN]
        wanted = [*newest, *filter(_is_uuid, chosen)]
        self.fields["documents"].queryset = documents.filter(pk__in=wanted)
        templates = ExtractionTemplate.objects.visible_to(user)
        self.fields["template"].choices = [(one.name, str(one)) for one in templates]
        models = LanguageModel.objects.callable().filter(task=LanguageModel.Task.GENERATE)
        names = [(name, name) for name in models.values_list("name", flat=True)]
        self.fields["model"].choices = [("", "as set up"), (RULES, "rules"), *names]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        given["files"] = [file for file in given.get("files") or [] if file]
        if not given["files"] and not given.get("documents"):
            self.add_error("files", "Choose files, or documents that are here.")
        return given


@admin.register(ExtractionJob)
class ExtractionJobAdmin(JobAdminBase):
    list_display = (
        *("document_name", "status_label", "found", "review"),
        *("duration", "owner", "created", "mlflow"),
    )
    list_filter = ("status", "template", "engine", "model_name", "created_at", "owner")
    search_fields = ("document__name", "id", "error", "owner__username")
    list_select_related = ("owner", "document", "template", "reviewer")
    live_cells = (*JobAdminBase.live_cells, "found", "review")
    change_form_template = "llm/extraction_job.html"

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def retry(self, job: Job) -> None:
        services.extraction_retry(job=job)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("llm.add_extractionjob")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExtractionJob]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<uuid:job_id>/values/", view(self.values_view), name="llm_extraction"),
            *super().get_urls(),
        ]

    # -- columns ------------------------------------------------------------------------------

    @column(description="Document", ordering="document__name")
    def document_name(self, job: ExtractionJob) -> SafeString:
        return format_html(
            '<span class="console-ellipsis" title="{0}">{0}</span>'
            '<span class="console-subtle">{1}, {2}</span>',
            job.document.name,
            job.template or "own schema",
            job.engine_name,
        )

    @column(description="Values")
    def found(self, job: ExtractionJob) -> SafeString:
        if job.values is None:
            return self.live(job, "found", display.NOTHING)
        count = sum(value not in (None, "", []) for value in (job.final or {}).values())
        text = f"{count} of {len(job.schema.get('properties', {}))}"
        url = reverse("admin:llm_extraction", args=[job.pk])
        return self.live(job, "found", display.link(url, text))

    @column(description="Review", ordering="accepted_at")
    def review(self, job: ExtractionJob) -> SafeString:
        if job.values is None:
            shown = display.NOTHING
        elif job.accepted_at:
            shown = display.label("accepted", "success")
        elif job.problems:
            shown = display.label("against the schema", "warning")
        else:
            shown = display.label("to review", "info")
        return self.live(job, "review", shown)

    @column(description="Document")
    def document_link(self, job: ExtractionJob) -> SafeString:
        url = reverse("admin:ocr_document_change", args=[job.document_id])
        return display.link(url, job.document.name)

    @column(description="Read by")
    def reading(self, job: ExtractionJob) -> SafeString | str:
        if job.ocr_job_id is None:
            return display.NOTHING
        return display.link(reverse("admin:ocr_ocrjob_change", args=[job.ocr_job_id]), "OCR job")

    @column(description="Model")
    def engine_text(self, job: ExtractionJob) -> str:
        return job.engine_name

    @column(description="Tokens")
    def tokens(self, job: ExtractionJob) -> str:
        if not job.prompt_tokens:
            return display.NOTHING
        return f"{job.prompt_tokens:,} in, {job.completion_tokens:,} out, {job.tries} requests"

    @column(description="Schema")
    def schema_text(self, job: ExtractionJob) -> SafeString:
        text = json.dumps(job.schema, ensure_ascii=False, indent=1)
        return format_html('<pre class="job-traceback">{}</pre>', text)

    def get_fieldsets(self, request: HttpRequest, obj: ExtractionJob | None = None) -> list[Any]:
        return [
            (
                None,
                {
                    "fields": (
                        ("document_link", "status_label"),
                        ("template", "found"),
                        ("engine_text", "review"),
                        ("reading", "duration"),
                    )
                },
            ),
            *self.error_fieldsets(obj),
            (
                "Run",
                {
                    "classes": ("collapse",),
                    "fields": (
                        ("owner", "created"),
                        ("worker", "started"),
                        ("attempts_of", "ended"),
                        ("mlflow", "tokens"),
                        "schema_text",
                    ),
                },
            ),
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        extra = (
            {"values_url": reverse("admin:llm_extraction", args=[object_id])} if object_id else {}
        )
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    # -- pages --------------------------------------------------------------------------------

    def values_view(self, request: HttpRequest, job_id: uuid.UUID) -> HttpResponse:
        """The values beside the page; what follows is JavaScript's and the API's."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        jobs = self.get_queryset(request)
        job = get_object_or_404(jobs, pk=job_id)
        before, after, upcoming = neighbours(ExtractionJob.objects.visible_to(request.user), job)
        image = reverse("admin:ocr_page_image", args=[job.ocr_job_id, 0]) if job.ocr_job_id else ""
        context = {
            **self.admin_site.each_context(request),
            "title": f"Values: {job.document}",
            "job": job,
            "state": extraction_state(job),
            "config": {
                "api": f"{reverse('extraction-list').rstrip('/')}/",
                # The page's number goes in the place of /0/.
                "image": image,
                "previous": _page_of(before),
                "next": _page_of(after),
                "upcoming": _page_of(upcoming),
                "may_change": self.has_manage_permission(request),
            },
        }
        return render(request, "llm/extraction.html", context)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Asks for documents, a template and a model; several documents are one batch."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            form = ExtractionForm(request.user, request.POST, request.FILES)
            made = self._submit(request, form) if form.is_valid() else None
            if isinstance(made, ExtractionBatch):
                return redirect("admin:llm_extractionbatch_change", made.pk)
            if made is not None:
                return redirect("admin:llm_extraction", made.pk)
        else:
            initial = {"template": "receipt", "documents": request.GET.getlist("document")}
            form = ExtractionForm(request.user, initial=initial)
        context = {
            **self.admin_site.each_context(request),
            "title": "Extract values",
            "opts": self.opts,
            "media": self.media + form.media,
            "form": form,
        }
        return render(request, "llm/extraction_add.html", context)

    def _submit(
        self, request: HttpRequest, form: ExtractionForm
    ) -> ExtractionJob | ExtractionBatch | None:
        given = form.cleaned_data
        files, documents = given["files"], list(given["documents"])
        what = {"template": given["template"], "model": given["model"], "owner": request.user}
        try:
            if len(files) + len(documents) > 1:
                return services.extraction_batch_submit(
                    documents=documents, files=files, source=Document.Source.CONSOLE, **what
                )
            if files:
                return services.extraction_upload(
                    file=files[0], source=Document.Source.CONSOLE, **what
                )
            return services.extraction_submit(document=documents[0], **what)
        except ApplicationError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
            return None


def _page_of(job: ExtractionJob | None) -> str | None:
    return job and reverse("admin:llm_extraction", args=[job.pk])


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(str(text))
    except ValueError:
        return False
    return True
