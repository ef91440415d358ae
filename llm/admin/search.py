"""Search in the console: passages are shown with their part of the page; the API finds them."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from unfold.admin import ModelAdmin

from llm.models import Search
from llm.retrieval.state import index_state, writers
from ocr.models import Document

# What the page's script puts a job's id in the place of.
NO_JOB = uuid.UUID(int=0)


@admin.register(Search)
class SearchAdmin(ModelAdmin):
    """The list of this proxy is the page."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Search | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Search | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Search in documents",
            "opts": self.opts,
            "state": index_state(Document.objects.visible_to(request.user)),
            "models": writers(),
            "config": {
                "search": reverse("llm-search"),
                "answers": reverse("llm-answers"),
                "index": reverse("llm-index"),
                "job": str(NO_JOB),
                "viewer": reverse("admin:ocr_viewer", args=[NO_JOB, 0]),
            },
        }
        return render(request, "llm/search.html", context)
