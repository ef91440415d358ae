"""The addresses of a port for users alone (URLS=user): the APIs, and nothing of the console."""

from __future__ import annotations

from mlops.urls import api_urlpatterns

urlpatterns = api_urlpatterns
