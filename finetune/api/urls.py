"""Addresses under /api/v1/finetune/."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import DefaultRouter

from finetune.api.datasets import DatasetImportViewSet, DatasetViewSet
from finetune.api.dry_run import dry_run
from finetune.api.evaluations import EvaluationViewSet
from finetune.api.merges import VersionMergeViewSet
from finetune.api.sweeps import SweepViewSet
from finetune.api.training import MethodsView, TrainingJobViewSet
from finetune.api.versions import DatasetVersionViewSet
from finetune.api.versions_of_models import ModelVersionViewSet
from mlops.api.events import job_events

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

router.register("jobs", TrainingJobViewSet, basename="trainingjob")
router.register("models", ModelVersionViewSet, basename="modelversion")
router.register("evaluations", EvaluationViewSet, basename="evaluation")
router.register("merges", VersionMergeViewSet, basename="versionmerge")
router.register("sweeps", SweepViewSet, basename="sweep")

urlpatterns = [
    re_path(r"^methods/?$", MethodsView.as_view(), name="finetune-methods"),
    re_path(r"^jobs/dry_run/?$", dry_run, name="trainingjob-dry-run"),
    path("jobs/<uuid:pk>/events/stream", job_events, name="trainingjob-stream"),
    path("", include(router.urls)),
]
