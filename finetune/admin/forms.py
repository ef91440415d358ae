"""What the console asks for when a dataset comes in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from finetune.formats import FORMATS
from llm.models import StoredFile


class OptionsForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="A new one, or one of yours that gets its next version.",
    )
    licence = forms.CharField(
        max_length=200, required=False, widget=UnfoldAdminTextInputWidget, help_text="CC BY 4.0, …"
    )
    test = forms.FloatField(
        initial=5,
        min_value=0,
        max_value=90,
        widget=UnfoldAdminDecimalFieldWidget,
        label="Test, %",
        help_text="Of the groups. It stays what it is in later versions.",
    )
    validation = forms.FloatField(
        initial=5,
        min_value=0,
        max_value=90,
        widget=UnfoldAdminDecimalFieldWidget,
        label="Validation, %",
    )
    drop_bad_rows = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Leave out rows with errors",
        help_text="Otherwise the report shows them first, and you choose then.",
    )

    def options(self) -> dict[str, Any]:
        """As the services take them."""
        given = dict(self.cleaned_data)
        given["test"], given["validation"] = given["test"] / 100, given["validation"] / 100
        return given

    def field_at_fault(self, param: str | None) -> str | None:
        """The field that an ApplicationError is about; None for the form as a whole."""
        return param if param in self.fields else None


class UploadForm(OptionsForm):
    file = forms.FileField(required=False, allow_empty_file=True, widget=UnfoldAdminFileFieldWidget)
    stored = forms.ModelChoiceField(
        StoredFile.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        label="Or a file that is here",
        empty_label="none",
        help_text="Uploaded for fine-tuning before, in the console or by /v1/files.",
    )
    hub = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        label="Or the name of a dataset on a hub",
        help_text="org/name; needs a network.",
    )
    format = forms.ChoiceField(
        required=False,
        choices=[("", "by the content"), *((form.name, form.title) for form in FORMATS.values())],
        widget=UnfoldAdminSelectWidget,
    )
    group_by = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        label="Group by",
        help_text="The column whose value keeps rows in one split; row: each by itself.",
    )
    max_tokens = forms.IntegerField(
        required=False,
        min_value=0,
        widget=UnfoldAdminIntegerFieldWidget,
        label="Longest row, tokens",
        help_text="Longer ones are flagged.",
    )
    field_order = ["file", "stored", "hub", "name", "licence", "format", "group_by", "max_tokens"]

    def __init__(self, *args: Any, files: QuerySet[StoredFile], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["stored"].queryset = files

    def options(self) -> dict[str, Any]:
        given = super().options()
        return given | {"max_tokens": given["max_tokens"] or 0}


class FromReviewsForm(OptionsForm):
    make = forms.ChoiceField(
        choices=[
            ("ocr", "OCR lines: the picture of each line and its accepted text"),
            ("correction", "Corrections: the text as it was read, and as it was accepted"),
        ],
        widget=UnfoldAdminSelectWidget,
        label="Make",
    )
    field_order = ["make", "name", "licence"]
