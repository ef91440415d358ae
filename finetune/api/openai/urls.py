"""Addresses under /v1/fine_tuning/."""

from __future__ import annotations

from django.urls import re_path

from finetune.api.openai import views

JOB = r"^jobs/(?P<pk>[\w-]+)"

urlpatterns = [
    re_path(r"^jobs/?$", views.JobsView.as_view(), name="fine-tuning-jobs"),
    re_path(rf"{JOB}/?$", views.JobView.as_view(), name="fine-tuning-job"),
    re_path(rf"{JOB}/cancel/?$", views.JobCancelView.as_view(), name="fine-tuning-cancel"),
    re_path(rf"{JOB}/pause/?$", views.JobPauseView.as_view(), name="fine-tuning-pause"),
    re_path(rf"{JOB}/resume/?$", views.JobResumeView.as_view(), name="fine-tuning-resume"),
    re_path(rf"{JOB}/events/?$", views.JobEventsView.as_view(), name="fine-tuning-events"),
    re_path(
        rf"{JOB}/checkpoints/?$",
        views.JobCheckpointsView.as_view(),
        name="fine-tuning-checkpoints",
    ),
]
