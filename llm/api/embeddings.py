"""`POST /v1/embeddings`."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.generate import GenerateView, Parsed, Place, answered
from llm.api.shapes import EmbeddingShape
from llm.models import GenerationJob
from llm.openai.requests import EmbeddingRequest


class EmbeddingView(GenerateView):
    endpoint = GenerationJob.Endpoint.EMBEDDING

    @extend_schema(
        operation_id="embeddings_create",
        request=OpenApiTypes.OBJECT,
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
    )
    def post(self, request: Request, place: Place) -> Response:
        """A vector for each text, as floats or, as OpenAI's client asks for them, in base64."""
        return self.submit(request, place)

    def parse(self, data: Any, key: uuid.UUID) -> Parsed:
        body = EmbeddingRequest.parse(data)
        return Parsed(body.model, False, EmbeddingShape(body))


@csrf_exempt
async def embeddings(request: HttpRequest) -> HttpResponseBase:
    return await answered(request, EmbeddingView)
