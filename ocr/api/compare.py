"""`/api/v1/ocr/compare`: two jobs of one document, and where their readings differ."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ocr.compare import compare, compared_jobs, comparison_json
from ocr.models import PageResult


class CompareSerializer(serializers.Serializer):
    a = serializers.UUIDField(help_text="id of a job")
    b = serializers.UUIDField(help_text="id of another job of the same document")
    page = serializers.IntegerField(
        required=False, min_value=1, help_text="one page, counted from 1; else all"
    )


class CompareView(APIView):
    """Word by word, in reading order; CER is that of B against A."""

    @extend_schema(
        operation_id="ocr_compare",
        parameters=[CompareSerializer],
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request) -> Response:
        given = CompareSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        jobs = compared_jobs(request.user, asked["a"], asked["b"])
        return Response(
            {
                "document": str(jobs.a.document_id),
                "a": {"job": str(jobs.a.pk), "engine": jobs.a.engine},
                "b": {"job": str(jobs.b.pk), "engine": jobs.b.engine},
                "pages": [_page(a, b) for a, b in jobs.pairs(asked.get("page"))],
            }
        )


def _page(a: PageResult, b: PageResult) -> dict[str, Any]:
    return {
        "page": a.page.number,
        "a": {"engine": a.engine, "error": a.error or None},
        "b": {"engine": b.engine, "error": b.error or None},
        **comparison_json(compare(a, b)),
    }
