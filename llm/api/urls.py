"""Addresses of files and batches under /v1/, as OpenAI has them."""

from __future__ import annotations

from django.urls import re_path

from llm.api.batches import BatchCancelView, BatchesView, BatchView
from llm.api.files import FileContentView, FilesView, FileView

urlpatterns = [
    re_path(r"^files/?$", FilesView.as_view(), name="llm-files"),
    re_path(r"^files/(?P<pk>[\w-]+)/?$", FileView.as_view(), name="llm-file"),
    re_path(
        r"^files/(?P<pk>[\w-]+)/content/?$", FileContentView.as_view(), name="llm-file-content"
    ),
    re_path(r"^batches/?$", BatchesView.as_view(), name="llm-batches"),
    re_path(r"^batches/(?P<pk>[\w-]+)/?$", BatchView.as_view(), name="llm-batch"),
    re_path(
        r"^batches/(?P<pk>[\w-]+)/cancel/?$", BatchCancelView.as_view(), name="llm-batch-cancel"
    ),
]
