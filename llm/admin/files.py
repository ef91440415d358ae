"""Stored files in the console: upload, look into, download, run as a batch."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget

from llm.models import StoredFile
from llm.services.batches import llm_batch_submit
from llm.services.files import stored_file_create, stored_file_delete
from mlops import display
from mlops.exceptions import ApplicationError

# As much of a file as its page shows.
HEAD_BYTES = 8 * 1024


class StoredFileForm(forms.ModelForm):
    """An upload: what is wrong with it is the service's to say."""

    upload = forms.FileField(label="File", widget=UnfoldAdminFileFieldWidget, allow_empty_file=True)
    purpose = forms.ChoiceField(
        choices=[(one.value, one.label) for one in StoredFile.UPLOADS],
        widget=UnfoldAdminSelectWidget,
        help_text="batch: one request a line. fine-tune: one example a line.",
    )

    class Meta:
        model = StoredFile
        fields = ("purpose",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner: Any = None

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        if not self.errors:
            upload = given["upload"]
            try:
                self.stored = stored_file_create(
                    owner=self.owner, file=upload, purpose=given["purpose"], filename=upload.name
                )
            except ApplicationError as error:
                raise forms.ValidationError({"upload": error.message}) from error
        return given


@admin.register(StoredFile)
class StoredFileAdmin(ModelAdmin):
    list_display = ("filename", "purpose", "size", "owner", "created", "expires", "download")
    list_filter = ("purpose", "created_at", "owner")
    search_fields = ("id", "filename", "sha256", "owner__username")
    list_select_related = ("owner",)
    change_form_template = "llm/file_change_form.html"

    class Media:
        css: ClassVar = {"all": ["llm/console.css"]}

    # -- who may do what ----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredFile]:
        return super().get_queryset(request).visible_to(request.user)

    def has_change_permission(self, request: HttpRequest, obj: StoredFile | None = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> list[str]:
        names = super().get_list_display(request)
        return [name for name in names if name != "owner" or request.user.sees_all]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        names = super().get_list_filter(request)
        return [name for name in names if name != "owner" or request.user.sees_all]

    # -- upload and delete --------------------------------------------------------------------

    def get_form(
        self, request: HttpRequest, obj: StoredFile | None = None, **kwargs: Any
    ) -> type[forms.ModelForm]:
        if obj is not None:
            return super().get_form(request, obj, **kwargs)

        class OwnersForm(StoredFileForm):
            def __init__(self, *args: Any, **given: Any) -> None:
                super().__init__(*args, **given)
                self.owner = request.user

        return OwnersForm

    def get_fieldsets(self, request: HttpRequest, obj: StoredFile | None = None) -> list[Any]:
        if obj is None:
            return [(None, {"fields": ("upload", "purpose")})]
        names = (
            ("filename", "purpose"),
            ("public_id", "size"),
            ("owner", "created"),
            ("status", "expires"),
            "sha256",
        )
        return [(None, {"fields": names}), ("Content", {"fields": ("head",)})]

    def save_model(
        self, request: HttpRequest, obj: StoredFile, form: StoredFileForm, change: bool
    ) -> None:
        """The service has stored it already; what follows speaks of that row."""
        for field in StoredFile._meta.concrete_fields:
            setattr(obj, field.attname, getattr(form.stored, field.attname))

    def delete_model(self, request: HttpRequest, obj: StoredFile) -> None:
        stored_file_delete(file=obj)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect("admin:llm_storedfile_change", object_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[StoredFile]) -> None:
        for file in queryset:
            try:
                stored_file_delete(file=file)
            except ApplicationError as error:
                self.message_user(request, f"{file}: {error.message}", messages.ERROR)

    # -- a batch of it ------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.batch_view)
        return [
            path("<str:object_id>/run-batch/", view, name="llm_storedfile_batch"),
            *super().get_urls(),
        ]

    def batch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The button of a batch's input: runs it, at the endpoint that its first line names."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("llm.add_llmbatch"):
            raise PermissionDenied
        file = get_object_or_404(self.get_queryset(request), pk=object_id)
        try:
            batch = llm_batch_submit(
                owner=request.user, input_file=file, endpoint=_first_endpoint(file)
            )
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return redirect("admin:llm_storedfile_change", object_id)
        self.message_user(request, f"{batch.public_id} is queued.", messages.SUCCESS)
        return redirect("admin:llm_llmbatch_change", batch.pk)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        extra: dict[str, Any] = {}
        file = self.get_object(request, object_id) if object_id else None
        if file:
            extra["content_url"] = reverse("llm-file-content", args=[file.pk])
            if file.purpose == StoredFile.Purpose.BATCH and request.user.has_perm(
                "llm.add_llmbatch"
            ):
                extra["batch_url"] = reverse("admin:llm_storedfile_batch", args=[file.pk])
        return super().changeform_view(request, object_id, form_url, extra | (extra_context or {}))

    # -- columns ------------------------------------------------------------------------------

    @column(description="Id")
    def public_id(self, file: StoredFile) -> SafeString:
        return format_html("<code>{}</code>", file.pk)

    @column(description="Size", ordering="bytes")
    def size(self, file: StoredFile) -> str:
        return filesizeformat(file.bytes)

    @column(description="Stored", ordering="created_at")
    def created(self, file: StoredFile) -> str:
        return display.moment(file.created_at)

    @column(description="Expires", ordering="expires_at")
    def expires(self, file: StoredFile) -> str:
        return display.moment(file.expires_at) if file.expires_at else "never"

    @column(description="Content")
    def download(self, file: StoredFile) -> SafeString:
        return display.link(reverse("llm-file-content", args=[file.pk]), "download")

    @column(description="First lines")
    def head(self, file: StoredFile) -> SafeString | str:
        content = _head(file)
        if content is None:
            return "The content is gone from the storage."
        if b"\0" in content:
            return "Not a text; download it."
        text = content.decode("utf-8", errors="replace")
        more = " …" if file.bytes > len(content) else ""
        return format_html('<div class="file-head" dir="auto">{}{}</div>', text, more)


def _head(file: StoredFile) -> bytes | None:
    try:
        with file.file.storage.open(file.file.name) as opened:
            return opened.read(HEAD_BYTES)
    except FileNotFoundError:
        return None


def _first_endpoint(file: StoredFile) -> str:
    """Raises ApplicationError if the first line names none."""
    try:
        return str(json.loads((_head(file) or b"").splitlines()[0])["url"])
    except (ValueError, LookupError, TypeError) as error:
        raise ApplicationError(
            "The first line names no url, such as /v1/chat/completions.", code="invalid_lines"
        ) from error
