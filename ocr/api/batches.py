"""`/api/v1/ocr/batches/`: many documents as one job."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, parsers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from mlops.api.idempotency import once
from mlops.exceptions import ApplicationError
from mlops.services import job_cancel
from ocr import exports, selectors, services
from ocr.api.serializers import OcrBatchCreateSerializer, OcrBatchSerializer
from ocr.models import Document, OcrBatch
from ocr.results_zip import zip_response


class OcrBatchViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Your batches; operators see everybody's."""

    queryset = OcrBatch.objects.none()
    serializer_class = OcrBatchSerializer
    filterset_fields = {"status": ["exact"], "name": ["exact", "icontains"]}
    parser_classes = [parsers.JSONParser, parsers.MultiPartParser, parsers.FormParser]

    def get_queryset(self) -> QuerySet[OcrBatch]:
        return OcrBatch.objects.visible_to(self.request.user)

    @extend_schema(request=OcrBatchCreateSerializer, responses={202: OcrBatchSerializer})
    def create(self, request: Request) -> Response:
        """`documents` (ids), `files` (uploads) and `prefix` (of the storage), any or all of them.

        Answers 202 at once. What can't be taken in is listed under `failures`; the rest is read.
        """
        given = OcrBatchCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        keys, files = options.pop("documents", []), options.pop("files", [])

        def make() -> OcrBatch:
            return services.ocr_batch_submit(
                owner=request.user,
                source=Document.Source.API,
                documents=_documents(request, keys),
                files=files,
                **options,
            )

        batch, headers = once(request, make)
        return self._accepted(batch, headers)

    @extend_schema(request=None, responses={202: OcrBatchSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Documents under way end after the page that they are at."""
        batch = self.get_object()
        job_cancel(job=batch)
        return self._accepted(batch)

    @extend_schema(request=None, responses={202: OcrBatchSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Reads again what failed; what was read is kept."""
        batch = self.get_object()
        services.ocr_batch_retry(job=batch)
        return self._accepted(batch)

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    @action(detail=True)
    def failures(self, request: Request, **_: Any) -> Response:
        """What was not read whole, and why."""
        return Response({"failures": list(selectors.batch_failures(self.get_object()))})

    @extend_schema(
        parameters=[
            OpenApiParameter("formats", str, description=f"of {', '.join(exports.FORMATS)}")
        ],
        responses={(200, "application/zip"): OpenApiTypes.BINARY},
    )
    @action(detail=True, url_path=r"results\.zip", url_name="results-zip")
    def results_zip(self, request: Request, **_: Any) -> StreamingHttpResponse:
        """What has been read so far, a file for each document and format."""
        formats = request.query_params.get("formats", "txt,json").split(",")
        return zip_response(self.get_object(), [form.strip() for form in formats if form.strip()])

    def _accepted(self, batch: Any, headers: dict[str, str] | None = None) -> Response:
        batch = OcrBatch.objects.get(pk=batch.pk)
        data = self.get_serializer(batch).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


def _documents(request: Request, keys: list[Any]) -> list[Document]:
    """In the order asked for. Raises ApplicationError naming one that isn't there."""
    found = Document.objects.visible_to(request.user).in_bulk(keys)
    missing = [str(key) for key in keys if key not in found]
    if missing:
        raise ApplicationError(
            f"There is no document {missing[0]}, or it isn't yours.",
            code="not_found",
            status=404,
            param="documents",
        )
    return [found[key] for key in dict.fromkeys(keys)]
