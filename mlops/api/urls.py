"""Addresses under /api/v1/ that belong to no app."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from mlops.api.events import job_events
from mlops.api.webhooks import WebhookDeliveryViewSet, WebhookViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.include_root_view = False
router.register("webhooks/deliveries", WebhookDeliveryViewSet, basename="webhookdelivery")
router.register("webhooks", WebhookViewSet, basename="webhook")

urlpatterns = [
    *(
        path(f"{place}/<uuid:pk>/events{slash}", job_events)
        for place in ("jobs", "ocr/jobs", "ocr/batches")
        for slash in ("", "/")
    ),
    path("", include(router.urls)),
]
