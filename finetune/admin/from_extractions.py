"""Datasets out of accepted extractions: an action on these, and a page that asks for the rest.

The action is hung on the console's page of extractions from here: they know nothing of fine-tuning.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from unfold.admin import ModelAdmin

from finetune import services
from finetune.admin.forms import OptionsForm
from finetune.admin.from_reviews import MOST_CHOSEN, may_make
from finetune.models import Dataset
from finetune.product_rows import ACCEPTED
from llm.models import ExtractionJob
from mlops.exceptions import ApplicationError

NAME = "Accepted extractions"


@admin.action(description="Make a dataset of these…", permissions=["dataset"])
def make_dataset(
    model_admin: ModelAdmin, request: HttpRequest, rows: QuerySet[Any]
) -> HttpResponse:
    """Of those among them that are accepted."""
    chosen = [str(pk) for pk in rows.values_list("pk", flat=True)[:MOST_CHOSEN]]
    return _page(request, OptionsForm(initial={"name": NAME}), chosen)


def from_extractions_view(request: HttpRequest) -> HttpResponse:
    """Of the extractions `extraction=`, or of all accepted ones."""
    if not may_make(request):
        raise PermissionDenied
    chosen = [text for text in request.POST.getlist("extraction") if _is_id(text)]
    sent = request.method == "POST"
    form = OptionsForm(request.POST if sent else None, initial={"name": NAME})
    if sent and form.is_valid():
        try:
            job = services.dataset_from_extractions(
                owner=request.user, extractions=chosen or ACCEPTED, **form.options()
            )
        except ApplicationError as error:
            form.add_error(form.field_at_fault(error.param), error.message)
        else:
            messages.success(request, f"A dataset is being made of {job.source}.")
            return redirect("admin:finetune_datasetimport_change", job.pk)
    return _page(request, form, chosen)


def _page(request: HttpRequest, form: OptionsForm, chosen: list[str]) -> HttpResponse:
    seen = ExtractionJob.objects.visible_to(request.user).filter(accepted_at__isnull=False)
    context = {
        **admin.site.each_context(request),
        "title": "Make a dataset of accepted extractions",
        "opts": Dataset._meta,
        "form": form,
        "media": admin.site.get_model_admin(Dataset).media + form.media,
        "chosen": chosen,
        "accepted": seen.filter(pk__in=chosen).count() if chosen else seen.count(),
    }
    return render(request, "finetune/from_extractions.html", context)


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


_extractions = admin.site.get_model_admin(ExtractionJob)
_extractions.has_dataset_permission = may_make
_extractions.actions = (*_extractions.actions, make_dataset)
