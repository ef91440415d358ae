"""The form of a language model: what can be checked here is, the rest is a worker's to say."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.validators import RegexValidator
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from llm.models import LanguageModel
from mlops import engines

DEVICE = RegexValidator(
    r"^(auto|cpu|cuda(:\d+)?|map)$", "auto, cpu, cuda, cuda:1 and so on, or map."
)
SOURCE_HELP = (
    "A hub name (org/model), a folder of the workers, or models:/name@alias of MLflow. This site "
    "can't see the workers' disks, so it is looked for when a worker first loads the model: "
    "a mistake shows as 'failed' in the list of models, with the reason."
)


def engine_choices() -> list[tuple[str, str]]:
    return [(name, name) for name in engines.specs("llm")]


def queue_choices() -> list[tuple[str, str]]:
    return [(name, name) for name in settings.QUEUES]


class LanguageModelForm(forms.ModelForm):
    engine = forms.ChoiceField(
        choices=engine_choices,
        initial="transformers",
        widget=UnfoldAdminSelectWidget,
        help_text="transformers runs the model here; openai asks other servers, which options "
        'name: {"urls": ["http://host:8000/v1"]}.',
    )
    queue = forms.ChoiceField(
        choices=queue_choices,
        initial="llm",
        widget=UnfoldAdminSelectWidget,
        help_text="Workers of this queue run it; QUEUES lists them all.",
    )
    device = forms.CharField(
        validators=[DEVICE],
        initial="auto",
        widget=UnfoldAdminTextInputWidget,
        help_text="auto takes a GPU where there is one; map spreads the model over several.",
    )

    class Meta:
        model = LanguageModel
        fields = (
            *("name", "base", "task", "source", "engine", "queue", "dtype", "device"),
            *("quantization", "context_length", "chat_template", "options", "enabled", "warm"),
            *("store_texts", "trace", "notes"),
        )
        widgets = {"chat_template": UnfoldAdminTextareaWidget({"rows": 6, "spellcheck": "false"})}
        help_texts = {
            "name": "What requests say in `model`. Clients' settings name it: change it with care.",
            "base": "For a LoRA adapter: the model it was trained on, which it is loaded with. "
            "Engine, device and the like are then the base's.",
            "source": SOURCE_HELP,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bases = LanguageModel.objects.filter(base=None)
        if "base" in self.fields:
            self.fields["base"].queryset = bases.exclude(pk=self.instance.pk)

    def clean_options(self) -> dict[str, Any]:
        options = self.cleaned_data["options"] or {}
        if not isinstance(options, dict):
            raise forms.ValidationError('An object, such as {"urls": ["http://host:8000/v1"]}.')
        return options

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        engine, source, base = given.get("engine"), given.get("source"), given.get("base")
        if engine == "transformers" and not source and base is None:
            self.add_error("source", "Say where the model's files are.")
        if base is not None and self.instance.pk and self.instance.adapters.exists():
            self.add_error("base", "This model has adapters of its own, so it can't be one.")
        return given
