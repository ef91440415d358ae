"""One version in the console: its report, its rows, what changed since the one before."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin

from finetune import charts, selectors, services
from finetune.admin.datasets import state_label
from finetune.content.facts import SPLITS
from finetune.downloads import picture_response
from finetune.models import DatasetVersion
from finetune.row_view import row_parts
from finetune.selectors import ShownRow
from mlops import display
from mlops.exceptions import ApplicationError

ROWS = 25


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ModelAdmin):
    """Reached from its dataset; there is no list of versions by themselves."""

    class Media:
        css: ClassVar = {"all": ["ocr/console.css", "finetune/dataset.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[DatasetVersion]:
        versions = super().get_queryset(request).visible_to(request.user)
        return versions.select_related("dataset", "parent", "dropped_by")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        pages = (
            ("<uuid:pk>/change/", self.report_view, "change"),
            ("<uuid:pk>/rows/", self.rows_view, "rows"),
            ("<uuid:pk>/rows/<int:number>/image", self.image_view, "image"),
            ("<uuid:pk>/diff/", self.diff_view, "diff"),
            ("<uuid:pk>/drop-bad-rows/", self.drop_view, "drop"),
        )
        return [
            path("", view(self.changelist_view), name="finetune_datasetversion_changelist"),
            *(
                path(place, view(page), name=f"finetune_datasetversion_{name}")
                for place, page, name in pages
            ),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return redirect("admin:finetune_dataset_changelist")

    # -- the report ---------------------------------------------------------------------------

    def report_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        report = version.report
        context = {
            **self._context(request, version, "report"),
            "report": report,
            "state": state_label(version.state),
            "created": display.moment(version.created_at),
            "histogram": charts.histogram(report["tokens"]["histogram"]),
            "splits": charts.split_bar(report["splits"]),
            "languages": charts.language_bars(report["languages"]),
            "may_drop": not version.ready
            and report["splits"]["train"]["rows"]
            and request.user.has_perm("finetune.change_datasetversion"),
        }
        return render(request, "finetune/version.html", context)

    def drop_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        """The explicit choice to do without rows that have errors."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("finetune.change_datasetversion"):
            raise PermissionDenied
        version = self._version(request, pk)
        try:
            services.bad_rows_drop(version=version, user=request.user)
        except ApplicationError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            done = f"{version.rows_bad:,} rows are left out; {version} can be trained on."
            self.message_user(request, done, messages.SUCCESS)
        return redirect("admin:finetune_datasetversion_change", version.pk)

    # -- rows ---------------------------------------------------------------------------------

    def rows_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        split = request.GET.get("split", "")
        split = split if split in SPLITS else ""
        words = request.GET.get("q", "").strip()
        context = {
            **self._context(request, version, "rows"),
            "split": split,
            "words": words,
            "tabs": self._tabs(version, split, words),
        }
        if words:
            context |= self._search(request, version, split, words)
        else:
            context |= self._sheet(request, version, split)
        return render(request, "finetune/rows.html", context)

    def _sheet(self, request: HttpRequest, version: DatasetVersion, split: str) -> dict[str, Any]:
        total = version.split_counts[split] if split else version.rows
        sheet = Paginator(range(total), ROWS).get_page(request.GET.get("p"))
        page = selectors.rows_page(version, split=split, page=sheet.number, size=ROWS)
        pages = sheet.paginator.get_elided_page_range(sheet.number, on_each_side=2, on_ends=1)
        query = urlencode({"split": split} if split else {})
        return {
            "rows": [self._row(version, row) for row in page.rows],
            "sheet": sheet,
            "pages": [page if isinstance(page, int) else None for page in pages],
            "query": f"{query}&" if query else "",
        }

    def _search(
        self, request: HttpRequest, version: DatasetVersion, split: str, words: str
    ) -> dict[str, Any]:
        text = request.GET.get("start", "0")
        start = int(text) if text.isdecimal() and len(text) < 10 else 0
        page = selectors.rows_search(version, words, split=split, start=start, size=ROWS)
        again = {"q": words, "split": split, "start": page.next}
        end = page.next if page.next is not None else version.stored_rows
        return {
            "rows": [self._row(version, row) for row in page.rows],
            "searched": (start + 1, end),
            "next_url": f"?{urlencode(again)}" if page.next is not None else "",
        }

    def _row(self, version: DatasetVersion, shown: ShownRow) -> dict[str, Any]:
        image = ""
        if version.dataset.kind == "ocr":
            place = [version.pk, shown.number]
            image = reverse("admin:finetune_datasetversion_image", args=place)
        return {
            "shown": shown,
            "image": image,
            "parts": row_parts(version.dataset.kind, shown.row),
            "group": shown.row.get("group", ""),
        }

    def _tabs(self, version: DatasetVersion, split: str, words: str) -> list[dict[str, Any]]:
        counts = {"": version.rows} | {name: version.split_counts[name] for name in SPLITS}
        return [
            {
                "title": name or "all",
                "count": count,
                "active": name == split,
                "url": "?" + urlencode({"split": name} | ({"q": words} if words else {})),
            }
            for name, count in counts.items()
        ]

    def image_view(self, request: HttpRequest, pk: uuid.UUID, number: int) -> HttpResponse:
        try:
            return picture_response(request, self._version(request, pk), number)
        except ApplicationError as error:
            return HttpResponse(error.message, status=error.status, content_type="text/plain")

    # -- differences --------------------------------------------------------------------------

    def diff_view(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        version = self._version(request, pk)
        others = version.dataset.versions.exclude(pk=version.pk)
        asked = request.GET.get("against", "")
        other = others.filter(number=int(asked)).first() if asked.isdecimal() else version.parent
        other = other or others.first()
        context = {
            **self._context(request, version, "changes"),
            "other": other,
            "others": others.defer("report", "pins"),
        }
        if other:
            found = selectors.versions_diff(other, version)
            context["diff"] = found
            context["sides"] = [
                ("Rows more", found["added"], self._rows(version, found["added_rows"])),
                ("Rows less", found["removed"], self._rows(other, found["removed_rows"])),
            ]
        return render(request, "finetune/diff.html", context)

    def _rows(self, version: DatasetVersion, rows: list[ShownRow]) -> list[dict[str, Any]]:
        return [self._row(version, row) for row in rows]

    # -- shared -------------------------------------------------------------------------------

    def _version(self, request: HttpRequest, pk: uuid.UUID) -> DatasetVersion:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(self.get_queryset(request), pk=pk)

    def _context(self, request: HttpRequest, version: DatasetVersion, page: str) -> dict[str, Any]:
        place = [version.dataset_id, version.number]
        tabs = [("report", "change"), ("rows", "rows"), ("changes", "diff")]
        return {
            **self.admin_site.each_context(request),
            "title": str(version),
            "opts": self.opts,
            "media": self.media,
            "version": version,
            "dataset_url": reverse("admin:finetune_dataset_change", args=[version.dataset_id]),
            "download_url": reverse("datasetversion-download", args=place),
            "problems_url": reverse("datasetversion-problems", args=place),
            "views": [
                {
                    "title": title,
                    "active": title == page,
                    "url": reverse(f"admin:finetune_datasetversion_{name}", args=[version.pk]),
                }
                for title, name in tabs
            ],
        }
