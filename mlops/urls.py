"""Every address of the platform."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from mlops import health
from mlops.metrics.view import MetricsView

api_urlpatterns = [
    path("health", health.health, name="health"),
    path("ready", health.ready, name="ready"),
    path("api/v1/", include("mlops.api.urls")),
    path("api/", include("ocr.urls")),
    path("api/v1/finetune/", include("finetune.api.urls")),
    path("v1/fine_tuning/", include("finetune.api.openai.urls")),
    path("", include("llm.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/llm/", include("llm.console_urls")),
    path("admin/", admin.site.urls),
    path("api/auth/", include("rest_framework.urls")),
    path("metrics", MetricsView.as_view(), name="metrics"),
    *api_urlpatterns,
]
