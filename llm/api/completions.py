"""`POST /v1/completions`."""

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
from llm.api.shapes import CompletionShape
from llm.models import GenerationJob
from llm.openai.requests import CompletionRequest


class CompletionView(GenerateView):
    endpoint = GenerationJob.Endpoint.COMPLETION

    @extend_schema(
        operation_id="completions_create",
        request=OpenApiTypes.OBJECT,
        responses={(200, "application/json"): OpenApiTypes.OBJECT},
    )
    def post(self, request: Request, place: Place) -> Response:
        """What follows a prompt, or each of several; with `stream` as server-sent events."""
        return self.submit(request, place)

    def parse(self, data: Any, key: uuid.UUID) -> Parsed:
        body = CompletionRequest.parse(data)
        return Parsed(body.model, bool(body.stream), CompletionShape(body, key))


@csrf_exempt
async def completions(request: HttpRequest) -> HttpResponseBase:
    return await answered(request, CompletionView)
