"""Addresses under /api/v1/llm/ of search, answers and corrections."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import DefaultRouter

from llm.api.answers import answers
from llm.api.corrections import CorrectionViewSet
from llm.api.search import IndexView, search

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.include_root_view = False
router.register("corrections", CorrectionViewSet, basename="textfix")

urlpatterns = [
    path("search", search, name="llm-search"),
    path("search/", search),
    path("answers", answers, name="llm-answers"),
    path("answers/", answers),
    re_path(r"^index/?$", IndexView.as_view(), name="llm-index"),
    path("", include(router.urls)),
]
