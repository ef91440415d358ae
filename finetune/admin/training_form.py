"""The console's form "New training": a method, its data and options, a dry run, the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from finetune.method_options import GROUPS, MethodOption, method_options, methods
from finetune.models import DatasetVersion, TrainingJob
from finetune.selectors import trainable_versions, training_bases
from finetune.services.training import training_job_submit
from finetune.training_view import option_hint, words
from llm.models import LanguageModel
from mlops.exceptions import ApplicationError
from mlops.models import User

if TYPE_CHECKING:
    from finetune.admin.training import TrainingJobAdmin

ICONS = {"sft": "forum", "dpo": "thumbs_up_down", "cpt": "menu_book", "ocr-recognition": "abc"}
# Groups of options that most people leave as they are.
FOLDED = {"Checkpoints", "Machine"}
OPTION = "option_"
SHOWN_VERSIONS = 200
# Somebody waits for it.
DRY_PRIORITY = 0


class TrainingForm(forms.Form):
    """Of one method; its options are fields made from the method's own description."""

    name = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of the model that comes of it. A name that there is gets its next version.",
    )
    base = forms.ModelChoiceField(
        LanguageModel.objects.none(),
        widget=UnfoldAdminSelectWidget,
        label="Base model",
        help_text="The model to begin with.",
    )
    dataset_version = forms.ModelChoiceField(
        DatasetVersion.objects.none(),
        widget=UnfoldAdminSelectWidget,
        label="Dataset version",
        help_text="Its training split is learned from.",
    )
    validation_version = forms.ModelChoiceField(
        DatasetVersion.objects.none(),
        required=False,
        widget=UnfoldAdminSelectWidget,
        label="Validate by",
        empty_label="its own validation split",
        help_text="Or all rows of another version.",
    )
    serve = forms.BooleanField(
        required=False,
        initial=True,
        widget=UnfoldBooleanSwitchWidget,
        label="Make it callable",
        help_text="Requests may name the result once its parity check has found it fit.",
    )

    def __init__(self, method: str, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method, self.options = method, method_options(method)
        versions = trainable_versions(user, method)
        self.fields["dataset_version"].queryset = versions
        self.fields["validation_version"].queryset = versions
        for name in ("dataset_version", "validation_version"):
            self.fields[name].label_from_instance = _version_words
        if method == TrainingJob.Method.OCR:
            del self.fields["base"]
        else:
            self.fields["base"].queryset = training_bases()
        for option in self.options:
            self.fields[OPTION + option.name] = _field(option)

    def groups(self) -> list[dict[str, Any]]:
        """The options' fields by group."""
        found = []
        for group in GROUPS:
            fields = [self[OPTION + one.name] for one in self.options if one.group == group]
            wrong = any(field.errors for field in fields)
            if fields:
                folded = group in FOLDED and not wrong
                found.append({"name": group, "fields": fields, "folded": folded})
        return found

    def submit(self, owner: User, *, dry_run: bool) -> TrainingJob | None:
        """The job, or None with what is wrong with the form added to it."""
        if not self.is_valid():
            return None
        given = self.cleaned_data
        options = {
            option.name: given[OPTION + option.name]
            for option in self.options
            if given[OPTION + option.name] not in ("", None)
        }
        more = {"priority": DRY_PRIORITY} if dry_run else {}
        try:
            return training_job_submit(
                owner=owner,
                name=given["name"],
                method=self.method,
                base=given.get("base"),
                dataset_version=given["dataset_version"],
                validation_version=given["validation_version"],
                options=options,
                dry_run=dry_run,
                serve=given["serve"],
                **more,
            )
        except ApplicationError as error:
            self.add_error(self._field_at_fault(error.param), error.message)
        return None

    def _field_at_fault(self, param: str | None) -> str | None:
        names = {"dataset": "dataset_version", "validation": "validation_version"}
        for name in (names.get(param or "", param), f"{OPTION}{param}"):
            if name in self.fields:
                return name
        return None


def _field(option: MethodOption) -> forms.Field:
    shown: dict[str, Any] = {"label": words(option.name), "help_text": option_hint(option)}
    if option.type == "boolean":
        widget = UnfoldBooleanSwitchWidget
        return forms.BooleanField(required=False, initial=option.default, widget=widget, **shown)
    if option.words_only:
        choices = [(word, word) for word in option.choices]
        return forms.ChoiceField(
            required=False,
            choices=choices,
            initial=option.default,
            widget=UnfoldAdminSelectWidget,
            **shown,
        )
    return forms.CharField(
        required=False,
        initial=f"{option.default:g}"
        if option.type == "number" and not isinstance(option.default, str)
        else option.default,
        widget=UnfoldAdminTextInputWidget,
        **shown,
    )


def _version_words(version: DatasetVersion) -> str:
    return f"{version} ({version.rows:,} rows, {version.tokens:,} tokens)"


def new_training_view(request: HttpRequest, model_admin: TrainingJobAdmin) -> HttpResponse:
    """Asks, and starts; a dry run without a script is a job with a page like any other."""
    method = request.POST.get("method") or request.GET.get("method", "")
    method = method if method in TrainingJob.Method.values else TrainingJob.Method.SFT.value
    if request.method == "POST":
        form = TrainingForm(method, request.user, request.POST)
        dry_run = request.POST.get("act") == "dry_run"
        job = form.submit(request.user, dry_run=dry_run)
        if job is not None:
            return redirect("admin:finetune_trainingjob_change", job.pk)
    else:
        form = TrainingForm(method, request.user, initial=_initial(request))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "New training",
        "opts": model_admin.opts,
        "form": form,
        "method": method,
        "methods": _method_cards(request, method),
        "media": model_admin.media + form.media,
        "no_versions": not form.fields["dataset_version"].queryset.exists(),
        "dry_run_url": reverse("admin:finetune_trainingjob_dry_run"),
    }
    return render(request, "finetune/training_form.html", context)


def dry_run_view(request: HttpRequest) -> HttpResponse:
    """Makes the dry run that the form's script asks for: its address, or the form's errors."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not request.user.has_perm("finetune.add_trainingjob"):
        raise PermissionDenied
    method = request.POST.get("method", "")
    if method not in TrainingJob.Method.values:
        return JsonResponse({"errors": {"": ["Choose a method."]}}, status=400)
    form = TrainingForm(method, request.user, request.POST)
    job = form.submit(request.user, dry_run=True)
    if job is None:
        errors = {name.removeprefix("__all__"): list(said) for name, said in form.errors.items()}
        return JsonResponse({"errors": errors}, status=400)
    return JsonResponse(
        {"report": reverse("admin:finetune_trainingjob_report", args=[job.pk])}, status=202
    )


def _initial(request: HttpRequest) -> dict[str, Any]:
    """What the address says already, as links from other pages do."""
    given = request.GET
    return {name: given[name] for name in ("name", "base", "dataset_version") if name in given}


def _method_cards(request: HttpRequest, chosen: str) -> list[dict[str, Any]]:
    query = request.GET.copy()
    cards = []
    for method in methods():
        query["method"] = method["name"]
        card = {"icon": ICONS[method["name"]], "active": method["name"] == chosen}
        cards.append(method | card | {"url": f"?{query.urlencode()}"})
    return cards
