"""Reviews in the console: the queue, the page on which lines are corrected, what was changed."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display as column

from mlops import display
from mlops.exceptions import ApplicationError
from ocr import services
from ocr.admin.review_queue import QueueForm, queue_rows
from ocr.models import Correction, PageResult, PageReview
from ocr.models.review import reviewable_results
from ocr.page_response import page_image_response
from ocr.review_queue import queue_results
from ocr.review_state import review_json, review_of

ROWS = 25


@admin.register(PageReview)
class PageReviewAdmin(ModelAdmin):
    """The list is the queue; a row opens the review page."""

    class Media:
        css: ClassVar = {"all": ["ocr/console.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PageReview | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[PageReview]:
        return super().get_queryset(request).visible_to(request.user)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("page/<int:result_id>/", view(self.page_view), name="ocr_review"),
            path("page/<int:result_id>/image", view(self.image_view), name="ocr_review_image"),
            path("start/", view(self.start_view), name="ocr_review_start"),
            *super().get_urls(),
        ]

    # -- the queue ----------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = QueueForm(request.user, request.GET)
        wanted = form.queue_filter()
        sheet = Paginator(queue_results(request.user, wanted), ROWS).get_page(request.GET.get("p"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Review",
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "wanted": wanted,
            "sheet": sheet,
            "rows": queue_rows(sheet, form.query()),
            "query": form.query(),
            "tabs": form.tabs(),
        }
        return render(request, "ocr/review_queue.html", context)

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """Claims the next page of the queue and opens it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = QueueForm(request.user, request.POST)
        review = services.review_next(user=request.user, wanted=form.queue_filter())
        if review is None:
            self.message_user(request, "Nothing is left to review here.")
            return redirect(f"{reverse('admin:ocr_pagereview_changelist')}?{form.query()}")
        url = reverse("admin:ocr_review", args=[review.result_id])
        return redirect(f"{url}?{form.query()}")

    # -- one page -----------------------------------------------------------------------------

    def page_view(self, request: HttpRequest, result_id: int) -> HttpResponse:
        """The page's image beside its lines; what follows is JavaScript's and the API's."""
        result = self._result(request, result_id)
        form = QueueForm(request.user, request.GET)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Review: {result}",
            "state": review_json(review_of(result)),
            "config": {
                "api": f"{reverse('review-list').rstrip('/')}/",
                "page": reverse("admin:ocr_review", args=[0]),
                "image": reverse("admin:ocr_review_image", args=[0]),
                "user": request.user.username,
                "queue": form.given(),
            },
            "queue_url": f"{reverse('admin:ocr_pagereview_changelist')}?{form.query()}",
        }
        return render(request, "ocr/review.html", context)

    def image_view(self, request: HttpRequest, result_id: int) -> HttpResponse:
        """The page as it was read: its pixels are those of the polygons."""
        result = self._result(request, result_id)
        try:
            return page_image_response(
                request,
                result.job.document,
                result.page.number,
                dpi=result.dpi or result.job.dpi,
                rotation=result.rotation,
            )
        except ApplicationError as error:
            return HttpResponse(error.message, status=error.status, content_type="text/plain")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        review = get_object_or_404(self.get_queryset(request), pk=object_id)
        return redirect("admin:ocr_review", review.result_id)

    def _result(self, request: HttpRequest, pk: int) -> PageResult:
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = reviewable_results(request.user).select_related("page", "job__document")
        return get_object_or_404(rows, pk=pk)


@admin.register(Correction)
class CorrectionAdmin(ModelAdmin):
    """Each change that anybody made, to look at."""

    list_display = ("when", "who", "page", "action", "line_id", "text_before", "text_after")
    list_display_links = None
    list_filter = ("action", "user", "created_at")
    search_fields = ("before", "after", "review__result__job__document__name")
    list_select_related = ("user", "review__result__page__document")
    list_per_page = 50
    ordering = ("-created_at", "-pk")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Correction | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Correction | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Correction]:
        reviews = PageReview.objects.visible_to(request.user)
        return super().get_queryset(request).filter(review__in=reviews)

    @column(description="When", ordering="created_at")
    def when(self, correction: Correction) -> str:
        return display.moment(correction.created_at)

    @column(description="Who", ordering="user")
    def who(self, correction: Correction) -> str:
        return correction.user.username if correction.user else display.NOTHING

    @column(description="Page")
    def page(self, correction: Correction) -> SafeString:
        result = correction.review.result
        url = reverse("admin:ocr_review", args=[result.pk])
        return format_html('<a class="console-link nowrap" href="{}">{}</a>', url, result.page)

    @column(description="Before")
    def text_before(self, correction: Correction) -> SafeString:
        return _ellipsis(correction.before)

    @column(description="After")
    def text_after(self, correction: Correction) -> SafeString:
        return _ellipsis(correction.after)


def _ellipsis(text: str) -> SafeString:
    return format_html('<span class="console-ellipsis" title="{0}">{0}</span>', text)
