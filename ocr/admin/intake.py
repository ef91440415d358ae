"""How documents come in by the console, and how they are sent to be read."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from unfold.admin import ModelAdmin

from mlops.exceptions import ApplicationError
from ocr import services
from ocr.admin.forms import OcrOptionsForm, UploadForm
from ocr.models import Document, OcrBatch


class IntakeAdmin(ModelAdmin):
    """The upload page, and the one that asks for engine and language."""

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ocr.add_ocrjob")

    # -- upload -------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        sent = request.method == "POST"
        form = UploadForm(request.POST, request.FILES) if sent else UploadForm()
        refused: list[tuple[str, str]] = []
        if sent and form.is_valid():
            stored, refused, batch = self._store(request, form)
            if stored:
                self.message_user(request, _stored_message(stored, form), messages.SUCCESS)
            if batch and not refused:
                return redirect("admin:ocr_ocrbatch_change", batch.pk)
            if stored and not refused:
                page = "ocrjob" if form.cleaned_data["run_ocr"] else "document"
                return redirect(f"admin:ocr_{page}_changelist")
        context = self._context(request, "Upload documents", form) | {"refused": refused}
        return render(request, "ocr/upload.html", context)

    def _store(
        self, request: HttpRequest, form: UploadForm
    ) -> tuple[list[str], list[tuple[str, str]], OcrBatch | None]:
        """Each file by itself: one that is refused keeps none of the others away.

        Several to be read are one batch.
        """
        stored, refused, documents = [], [], []
        ends = {"owner": request.user, "source": Document.Source.CONSOLE}
        files = form.cleaned_data["files"]
        run = form.cleaned_data["run_ocr"] and self.has_run_permission(request)
        together = run and len(files) > 1
        for file in files:
            try:
                if together and not stored:
                    services.ocr_options_check(**form.options())
                if run and not together:
                    services.upload_and_submit(file=file, **ends, **form.options())
                else:
                    documents.append(services.document_create(file=file, name=file.name, **ends))
            except ApplicationError as error:
                if field := form.field_at_fault(error.param):
                    form.add_error(field, error.message)
                    break
                refused.append((file.name, error.message))
            else:
                stored.append(file.name)
        batch = None
        if together and documents:
            batch = services.ocr_batch_submit(documents=documents, **ends, **form.options())
        return stored, refused, batch

    # -- reading ------------------------------------------------------------------------------

    @admin.action(description="Run OCR…", permissions=["run"])
    def run_ocr(self, request: HttpRequest, documents: QuerySet[Document]) -> HttpResponse:
        return self._run_page(request, documents, OcrOptionsForm())

    def run_view(self, request: HttpRequest) -> HttpResponse:
        """Asks for the engine and the language, then makes a job for each `document=`."""
        if not self.has_run_permission(request):
            raise PermissionDenied
        given = request.POST if request.method == "POST" else request.GET
        keys = list(filter(_is_uuid, given.getlist("document")))
        documents = self.get_queryset(request).filter(pk__in=keys)
        form = OcrOptionsForm(request.POST if request.method == "POST" else None)
        if not documents:
            self.message_user(request, "Choose the documents to read first.", messages.WARNING)
            return redirect("admin:ocr_document_changelist")
        if form.is_bound and form.is_valid() and self._submit(request, documents, form):
            return redirect("admin:ocr_ocrjob_changelist")
        return self._run_page(request, documents, form)

    def _submit(
        self, request: HttpRequest, documents: QuerySet[Document], form: OcrOptionsForm
    ) -> bool:
        """False if the options were refused, which is as true of the first as of the last."""
        for document in documents:
            try:
                # Of the document's owner, so that who uploaded it sees what is read in it.
                owner = document.owner or request.user
                services.ocr_job_submit(document=document, owner=owner, **form.options())
            except ApplicationError as error:
                form.add_error(form.field_at_fault(error.param), error.message)
                return False
        count = len(documents)
        noun = "OCR job" if count == 1 else "OCR jobs"
        self.message_user(request, f"{count} {noun} queued.", messages.SUCCESS)
        return True

    def _run_page(
        self, request: HttpRequest, documents: QuerySet[Document], form: OcrOptionsForm
    ) -> HttpResponse:
        context = self._context(request, "Run OCR", form) | {"documents": documents}
        return render(request, "ocr/run.html", context)

    def _context(self, request: HttpRequest, title: str, form: OcrOptionsForm) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "may_run": self.has_run_permission(request),
        }


def _stored_message(names: list[str], form: UploadForm) -> str:
    what = names[0] if len(names) == 1 else f"{len(names)} documents"
    return f"{what} stored" + (" and queued for OCR." if form.cleaned_data["run_ocr"] else ".")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
