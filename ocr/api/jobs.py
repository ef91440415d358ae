"""`/api/v1/ocr/jobs/`: start OCR, follow it, fetch what was read."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, parsers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from mlops.api.idempotency import once
from mlops.models import Job
from mlops.services import job_cancel
from ocr import exports, services
from ocr.api.negotiation import NamedInQuery
from ocr.api.serializers import OcrJobCreateSerializer, OcrJobSerializer
from ocr.models import Document, OcrJob
from ocr.result_response import result_response


class OcrJobViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet,
):
    """Your OCR jobs; operators see everybody's."""

    queryset = OcrJob.objects.none()
    serializer_class = OcrJobSerializer
    filterset_fields = {
        "status": ["exact"],
        "document": ["exact"],
        "engine": ["exact"],
        "created_at": ["gte", "lte"],
    }
    parser_classes = [parsers.JSONParser, parsers.MultiPartParser, parsers.FormParser]

    def get_queryset(self) -> QuerySet[OcrJob]:
        return OcrJob.objects.visible_to(self.request.user).select_related("document")

    @extend_schema(request=OcrJobCreateSerializer, responses={202: OcrJobSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; `Location` is where to poll."""
        given = OcrJobCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        pk, file = options.pop("document", None), options.pop("file", None)

        def make() -> OcrJob:
            if file is not None:
                return services.upload_and_submit(
                    file=file, owner=request.user, source=Document.Source.API, **options
                )
            document = get_object_or_404(Document.objects.visible_to(request.user), pk=pk)
            return services.ocr_job_submit(document=document, owner=request.user, **options)

        job, headers = once(request, make)
        return self._accepted(job, headers)

    @extend_schema(request=None, responses={202: OcrJobSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """A queued job ends at once; a running one after the page that it is at."""
        job = self.get_object()
        job_cancel(job=job)
        return self._accepted(job)

    @extend_schema(request=None, responses={202: OcrJobSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Queues a failed or cancelled job again; pages already read are kept."""
        job = self.get_object()
        services.ocr_job_retry(job=job)
        return self._accepted(job)

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=list(exports.FORMATS), default="json")],
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            (200, "text/plain"): OpenApiTypes.STR,
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
        },
    )
    @action(detail=True, content_negotiation_class=NamedInQuery)
    def result(self, request: Request, **_: Any) -> HttpResponseBase:
        """What was read. A job that failed or was cancelled gives the pages that it had read.

        `pdf` is searchable, `page` of several pages a zip of one PAGE XML file a page.
        """
        return result_response(self.get_object(), request.query_params.get("format", "json"))

    def _accepted(self, job: Job, headers: dict[str, str] | None = None) -> Response:
        job = OcrJob.objects.select_related("document").get(pk=job.pk)
        data = self.get_serializer(job).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)
