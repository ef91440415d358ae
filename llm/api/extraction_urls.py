"""Addresses under /api/v1/llm/ of extractions."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from llm.api.extractions import ExtractionBatchViewSet, ExtractionViewSet, TemplateViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.include_root_view = False
router.register("extractions/batches", ExtractionBatchViewSet, basename="extractionbatch")
router.register("extractions/templates", TemplateViewSet, basename="extractiontemplate")
router.register("extractions", ExtractionViewSet, basename="extraction")

urlpatterns = [path("", include(router.urls))]
