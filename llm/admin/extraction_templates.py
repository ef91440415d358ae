"""Templates of extraction in the console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import JSONField, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminTextareaWidget

from llm.extraction.fields import schema_check
from llm.models import ExtractionTemplate
from llm.services.extraction_templates import examples_check
from mlops import display
from mlops.exceptions import ApplicationError


class TemplateForm(forms.ModelForm):
    def clean_schema(self) -> Any:
        return _checked(schema_check, self.cleaned_data["schema"])

    def clean_examples(self) -> Any:
        return _checked(examples_check, self.cleaned_data["examples"] or [])


@admin.register(ExtractionTemplate)
class ExtractionTemplateAdmin(ModelAdmin):
    """Everybody's and one's own; built-in ones are looked at and copied."""

    form = TemplateForm
    list_display = ("title_text", "name", "field_names", "owner", "built_in", "changed")
    list_filter = ("built_in", "owner")
    search_fields = ("name", "title")
    fields = ("name", "title", "owner", "schema", "instructions", "examples")
    formfield_overrides: ClassVar = {
        JSONField: {"widget": UnfoldAdminTextareaWidget({"rows": 18, "spellcheck": "false"})},
    }
    view_on_site = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExtractionTemplate]:
        return super().get_queryset(request).visible_to(request.user).select_related("owner")

    def has_change_permission(
        self, request: HttpRequest, obj: ExtractionTemplate | None = None
    ) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.built_in)

    def has_delete_permission(
        self, request: HttpRequest, obj: ExtractionTemplate | None = None
    ) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.built_in)

    @column(description="Template", ordering="title")
    def title_text(self, template: ExtractionTemplate) -> str:
        return str(template)

    @column(description="Fields")
    def field_names(self, template: ExtractionTemplate) -> SafeString:
        names = ", ".join(template.schema.get("properties", {}))
        return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', names)

    @column(description="Changed", ordering="changed_at")
    def changed(self, template: ExtractionTemplate) -> str:
        return display.moment(template.changed_at)


def _checked(check: Callable[[Any], None], value: Any) -> Any:
    try:
        check(value)
    except ApplicationError as error:
        raise forms.ValidationError(error.message) from error
    return value
