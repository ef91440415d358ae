"""`/api/v1/llm/requests/`: what was asked of models, and what it took."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from llm.models import GenerationJob
from llm.services.generations import generation_cancel


class GenerationJobSerializer(serializers.ModelSerializer):
    model = serializers.SlugRelatedField(slug_field="name", read_only=True)

    class Meta:
        model = GenerationJob
        fields = [
            *("id", "endpoint", "asked_model", "model", "status", "error_code", "error"),
            *("streamed", "prompt_tokens", "cached_tokens", "completion_tokens"),
            *("finish_reason", "first_token_ms", "body", "answer", "request_id"),
            *("created_at", "started_at", "finished_at"),
        ]


class GenerationJobViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """Your requests; operators see everybody's. Texts are here only if the model stores them."""

    queryset = GenerationJob.objects.none()
    serializer_class = GenerationJobSerializer
    filterset_fields = {
        "status": ["exact"],
        "endpoint": ["exact"],
        "model__name": ["exact"],
        "created_at": ["gte", "lte"],
    }

    def get_queryset(self) -> QuerySet[GenerationJob]:
        return GenerationJob.objects.visible_to(self.request.user).select_related("model")

    @extend_schema(request=None, responses={202: GenerationJobSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Ends within a few tokens; whoever waits for it is told so. One that ended stays so."""
        generation_cancel(pk=self.get_object().pk)
        return Response(
            self.get_serializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED
        )
