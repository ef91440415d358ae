"""Pages of the console that belong to no table."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from llm.admin.playground import playground_view

urlpatterns = [
    path("playground/", admin.site.admin_view(playground_view), name="llm-playground"),
]
