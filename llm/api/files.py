"""`/v1/files`: OpenAI's Files API."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from llm.api.file_content import content_response
from llm.api.openai_view import OpenAIView, listed, not_found, seconds
from llm.models import StoredFile
from llm.services.files import stored_file_create, stored_file_delete
from mlops.exceptions import ApplicationError
from mlops.models import User

MOST = 10_000
EXPIRY = range(3600, 2_592_000 + 1)


class FileUploadSerializer(serializers.Serializer):
    """For the API's documentation: what an upload holds."""

    file = serializers.FileField()
    purpose = serializers.ChoiceField([purpose.value for purpose in StoredFile.UPLOADS])


class FileSerializer(serializers.Serializer):
    """For the API's documentation: OpenAI's file object."""

    id = serializers.CharField()
    object = serializers.ChoiceField(["file"])
    bytes = serializers.IntegerField()
    created_at = serializers.IntegerField(help_text="unix seconds")
    expires_at = serializers.IntegerField(allow_null=True)
    filename = serializers.CharField()
    purpose = serializers.ChoiceField(StoredFile.Purpose.values)
    status = serializers.ChoiceField(StoredFile.Status.values)
    status_details = serializers.CharField(allow_null=True)


def file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.pk,
        "object": "file",
        "bytes": file.bytes,
        "created_at": seconds(file.created_at),
        "expires_at": seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": file.status,
        "status_details": file.status_details or None,
    }


def file_find(user: User, pk: str, *, param: str = "file_id") -> StoredFile:
    """Raises ApplicationError (404) for one that isn't there, has expired, or isn't the user's."""
    file = StoredFile.objects.visible_to(user).unexpired().filter(pk=pk).first()
    if file is None:
        raise not_found("File object", pk, param=param)
    return file


class FilesView(OpenAIView):
    """Your files; operators see everybody's."""

    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="files_create",
        request={"multipart/form-data": FileUploadSerializer},
        responses=FileSerializer,
    )
    def post(self, request: Request) -> Response:
        file = request.data.get("file")
        if not isinstance(file, UploadedFile):
            raise ApplicationError(
                "Send the file as a part named 'file'.", code="missing_parameter", param="file"
            )
        stored = stored_file_create(
            owner=request.user,
            file=file,
            purpose=_purpose(request.data.get("purpose")),
            filename=file.name or "",
            expires_seconds=_expiry(request.data),
        )
        return Response(file_object(stored))

    @extend_schema(operation_id="files_list", responses=FileSerializer(many=True))
    def get(self, request: Request) -> Response:
        files = StoredFile.objects.visible_to(request.user).unexpired()
        if purpose := request.query_params.get("purpose"):
            files = files.filter(purpose=purpose)
        return listed(
            request,
            files,
            file_object,
            find=lambda pk: file_find(request.user, pk, param="after"),
            most=MOST,
            default=MOST,
        )


class FileView(OpenAIView):
    @extend_schema(operation_id="files_retrieve", responses=FileSerializer)
    def get(self, request: Request, pk: str) -> Response:
        return Response(file_object(file_find(request.user, pk)))

    @extend_schema(operation_id="files_delete", responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, pk: str) -> Response:
        stored_file_delete(file=file_find(request.user, pk))
        return Response({"id": pk, "object": "file", "deleted": True})


class FileContentView(OpenAIView):
    @extend_schema(
        operation_id="files_content",
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, pk: str) -> HttpResponseBase:
        return content_response(file_find(request.user, pk), request.headers.get("Range"))


def _purpose(given: Any) -> str:
    if given not in StoredFile.UPLOADS:
        raise ApplicationError(
            f"purpose: one of {', '.join(StoredFile.UPLOADS)}.",
            code="invalid_value" if given else "missing_parameter",
            param="purpose",
        )
    return str(given)


def _expiry(data: Any) -> int | None:
    """`expires_after[anchor]` and `expires_after[seconds]`, as the clients send them in a form."""
    anchor, text = data.get("expires_after[anchor]"), data.get("expires_after[seconds]")
    if anchor is None and text is None:
        return None
    if anchor != "created_at":
        raise ApplicationError(
            "expires_after: the anchor is created_at.", code="invalid_value", param="expires_after"
        )
    return expiry_seconds(text, param="expires_after")


def expiry_seconds(given: Any, *, param: str) -> int:
    """Raises ApplicationError unless from an hour to 30 days."""
    if not str(given).isdecimal() or int(given) not in EXPIRY:
        raise ApplicationError(
            f"{param}: seconds from {EXPIRY.start} to {EXPIRY.stop - 1}.",
            code="invalid_value",
            param=param,
        )
    return int(given)
