"""What the console asks for: files to upload, and how to read them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from unfold.widgets import (
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from mlops import engines
from ocr.languages import LANGUAGES

# These come first in the list: what people here read most.
COMMON = ("ko", "en", "ja", "zh-Hans")


def engine_choices() -> list[tuple[str, str]]:
    return [
        ("auto", "auto (chosen for each page)"),
        *((name, name) for name in engines.specs("ocr")),
    ]


def language_choices() -> list[tuple[str, str]]:
    """Every language that some engine reads."""
    read = set().union(*(spec.languages for spec in engines.specs("ocr").values()))
    known = [language for language in LANGUAGES.values() if language.code in read]
    known.sort(key=lambda one: (*(one.code != code for code in COMMON), one.name))
    return [
        (one.code, one.name if one.name == one.native_name else f"{one.name} · {one.native_name}")
        for one in known
    ]


class OcrOptionsForm(forms.Form):
    engine = forms.ChoiceField(
        choices=engine_choices,
        initial="auto",
        widget=UnfoldAdminSelectWidget,
        required=False,
        help_text="auto takes the default engine, or another where that one can't read the page.",
    )
    languages = forms.MultipleChoiceField(
        choices=language_choices,
        widget=UnfoldAdminSelect2MultipleWidget({"data-placeholder": "found out from the page"}),
        required=False,
        help_text="Leave it empty and the language is found out from each page.",
    )

    def options(self) -> dict[str, str]:
        """As the services take them."""
        return {
            "engine": self.cleaned_data["engine"] or "auto",
            "language": "+".join(self.cleaned_data["languages"]) or "auto",
        }

    def field_at_fault(self, param: str | None) -> str | None:
        """The field that an ApplicationError is about; None for the form as a whole."""
        name = {"language": "languages"}.get(param or "", param)
        return name if name in self.fields else None


class FilesInput(forms.FileInput):
    """Drawn as a drop zone by the upload page."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One file or several, an empty one included: what is wrong with it is the service's to say."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data if isinstance(data, list | tuple) else [data]
        return [super(FilesField, self).clean(file, initial) for file in files or [None]]


class UploadForm(OcrOptionsForm):
    files = FilesField(allow_empty_file=True, max_length=None)
    run_ocr = forms.BooleanField(
        required=False, initial=True, widget=UnfoldBooleanSwitchWidget, label="Run OCR now"
    )
