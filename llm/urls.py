"""Addresses of the LLM app: OpenAI's under /v1/, the platform's own under /api/v1/llm/."""

from __future__ import annotations

from django.urls import include, path, re_path
from rest_framework.routers import DefaultRouter

from llm.api.chat import chat_completions
from llm.api.completions import completions
from llm.api.embeddings import embeddings
from llm.api.models import ModelsView, ModelView
from llm.api.registry import LanguageModelViewSet, ModelAliasViewSet
from llm.api.requests import GenerationJobViewSet

router = DefaultRouter()
# With and without: a POST cannot be redirected to the form with a slash.
router.trailing_slash = "/?"
router.include_root_view = False
router.register("models", LanguageModelViewSet, basename="languagemodel")
router.register("requests", GenerationJobViewSet, basename="generationjob")
router.register("aliases", ModelAliasViewSet, basename="modelalias")

openai_urlpatterns = [
    re_path(r"^chat/completions/?$", chat_completions, name="llm-chat"),
    re_path(r"^completions/?$", completions, name="llm-completions"),
    re_path(r"^embeddings/?$", embeddings, name="llm-embeddings"),
    re_path(r"^models/?$", ModelsView.as_view(), name="llm-models"),
    # Names may hold slashes, as hub names do.
    re_path(r"^models/(?P<name>.+?)/?$", ModelView.as_view(), name="llm-model"),
]

urlpatterns = [
    path("v1/", include(openai_urlpatterns)),
    path("v1/", include("llm.api.urls")),
    path("api/v1/llm/", include("llm.api.search_urls")),
    path("api/v1/llm/", include("llm.api.extraction_urls")),
    path("api/v1/llm/", include(router.urls)),
]
