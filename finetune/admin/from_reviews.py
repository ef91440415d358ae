"""Datasets out of corrected pages: an action on corrections, and a page that asks for the rest.

The actions are hung on the console's pages of OCR from here: OCR knows nothing of fine-tuning.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from unfold.admin import ModelAdmin

from finetune import services
from finetune.admin.forms import FromReviewsForm
from finetune.models import Dataset
from finetune.product_rows import ACCEPTED
from mlops.exceptions import ApplicationError
from ocr.models import Correction, PageReview

# What an action may take along in a form; more is better made of all accepted pages.
MOST_CHOSEN = 5000


@admin.action(description="Make a dataset of these pages…", permissions=["dataset"])
def make_dataset(
    model_admin: ModelAdmin, request: HttpRequest, rows: QuerySet[Any]
) -> HttpResponse:
    """Of the accepted pages that the chosen corrections belong to."""
    chosen = list(rows.order_by().values_list("review", flat=True).distinct()[:MOST_CHOSEN])
    return _page(request, FromReviewsForm(initial={"name": "Corrected pages"}), chosen)


def from_reviews_view(request: HttpRequest) -> HttpResponse:
    """Asks what to make of the pages `review=`, or of all accepted ones, then makes the job."""
    if not may_make(request):
        raise PermissionDenied
    chosen = [int(text) for text in request.POST.getlist("review") if text.isdecimal()]
    sent = request.method == "POST"
    form = FromReviewsForm(request.POST if sent else None, initial={"name": "Corrected pages"})
    if sent and form.is_valid():
        options = form.options()
        try:
            job = services.dataset_from_reviews(
                owner=request.user, reviews=chosen or ACCEPTED, **options
            )
        except ApplicationError as error:
            form.add_error(form.field_at_fault(error.param), error.message)
        else:
            messages.success(request, f"A dataset is being made of {job.source}.")
            return redirect("admin:finetune_datasetimport_change", job.pk)
    return _page(request, form, chosen)


def _page(request: HttpRequest, form: FromReviewsForm, chosen: list[int]) -> HttpResponse:
    seen = PageReview.objects.visible_to(request.user).accepted()
    accepted = seen.filter(pk__in=chosen).count() if chosen else seen.count()
    context = {
        **admin.site.each_context(request),
        "title": "Make a dataset of corrected pages",
        "opts": Dataset._meta,
        "form": form,
        "media": admin.site.get_model_admin(Dataset).media + form.media,
        "chosen": chosen,
        "accepted": accepted,
    }
    return render(request, "finetune/from_reviews.html", context)


def may_make(request: HttpRequest) -> bool:
    return request.user.has_perm("finetune.add_dataset")


_corrections = admin.site.get_model_admin(Correction)
_corrections.has_dataset_permission = may_make
_corrections.actions = (*_corrections.actions, make_dataset)
