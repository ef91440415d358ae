"""Addresses under /api/ that belong to OCR."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from ocr.api.documents import DocumentViewSet
from ocr.api.extract import extract_sync
from ocr.api.jobs import OcrJobViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.register("documents", DocumentViewSet, basename="document")
router.register("ocr/jobs", OcrJobViewSet, basename="ocrjob")

urlpatterns = [
    path("v1/", include(router.urls)),
    path("ocr/extract/sync", extract_sync, name="ocr-extract-sync"),
]
