"""Addresses under /api/ that belong to OCR."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import DefaultRouter

from ocr.api.batches import OcrBatchViewSet
from ocr.api.compare import CompareView
from ocr.api.documents import DocumentViewSet
from ocr.api.extract import extract_sync
from ocr.api.jobs import OcrJobViewSet
from ocr.api.quality import QualityView
from ocr.api.review import ReviewViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.register("documents", DocumentViewSet, basename="document")
router.register("ocr/batches", OcrBatchViewSet, basename="ocrbatch")
router.register("ocr/jobs", OcrJobViewSet, basename="ocrjob")
router.register("ocr/reviews", ReviewViewSet, basename="review")

urlpatterns = [
    re_path(r"^v1/ocr/quality/?$", QualityView.as_view(), name="ocr-quality"),
    path("v1/ocr/compare", CompareView.as_view(), name="ocr-compare"),
    path("v1/", include(router.urls)),
    path("ocr/extract/sync", extract_sync, name="ocr-extract-sync"),
]
