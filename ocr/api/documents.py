"""`/api/v1/documents/`: upload, list, fetch and delete documents."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import FileResponse, HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from ocr import services
from ocr.api.serializers import DocumentSerializer, UploadSerializer
from ocr.models import Document
from ocr.page_response import SIDES, TURNS, page_image_response


class DocumentViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your documents; operators see everybody's."""

    queryset = Document.objects.none()
    serializer_class = DocumentSerializer
    filterset_fields = {
        "name": ["exact", "icontains"],
        "sha256": ["exact"],
        "media_type": ["exact"],
        "created_at": ["gte", "lte"],
    }
    parser_classes = [MultiPartParser]

    def get_queryset(self) -> QuerySet[Document]:
        return Document.objects.visible_to(self.request.user)

    @extend_schema(request={"multipart/form-data": UploadSerializer}, responses=DocumentSerializer)
    def create(self, request: Request) -> Response:
        upload = UploadSerializer(data=request.data)
        upload.is_valid(raise_exception=True)
        file = upload.validated_data["file"]
        document = services.document_create(
            file=file, name=file.name, owner=request.user, source=Document.Source.API
        )
        data = self.get_serializer(document).data
        return Response(data, status=status.HTTP_201_CREATED, headers={"Location": data["url"]})

    def perform_destroy(self, document: Document) -> None:
        services.document_delete(document=document)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    @action(detail=True)
    def file(self, request: Request, **_: Any) -> FileResponse:
        """The file as it was uploaded; always a download, never shown by the browser."""
        document = self.get_object()
        return FileResponse(
            document.file.open("rb"),
            as_attachment=True,
            filename=document.name,
            content_type="application/octet-stream",
        )

    @extend_schema(
        parameters=[
            OpenApiParameter("number", int, "path", description="counted from 1"),
            OpenApiParameter(
                "max_side",
                int,
                description=f"longer side in pixels, {SIDES.start} to {SIDES.stop - 1}",
            ),
            OpenApiParameter(
                "rotation",
                int,
                enum=[int(turn) for turn in TURNS],
                description="degrees clockwise to turn the page by, as in a page's result",
            ),
        ],
        responses={(200, "image/jpeg"): OpenApiTypes.BINARY},
    )
    @action(detail=True, url_path=r"pages/(?P<number>\d{1,6})/image")
    def page_image(self, request: Request, number: str, **_: Any) -> HttpResponse:
        """One page drawn anew, for showing."""
        return page_image_response(request, self.get_object(), int(number))
