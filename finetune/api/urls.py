"""Addresses under /api/v1/finetune/."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from finetune.api.datasets import DatasetImportViewSet, DatasetViewSet
from finetune.api.versions import DatasetVersionViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.include_root_view = False
router.register(
    r"datasets/(?P<dataset_pk>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/versions",
    DatasetVersionViewSet,
    basename="datasetversion",
)
router.register("datasets", DatasetViewSet, basename="dataset")
router.register("imports", DatasetImportViewSet, basename="datasetimport")

urlpatterns = [path("", include(router.urls))]
