"""`/api/v1/finetune/datasets/<id>/versions/<number>/`: reports, rows, differences, downloads."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from finetune import selectors, services
from finetune.api.datasets import own_only
from finetune.api.serializers import VersionSerializer, VersionSummarySerializer
from finetune.downloads import picture_response, problems_response, rows_response
from finetune.models import Dataset, DatasetVersion
from finetune.selectors import ShownRow
from mlops.exceptions import ApplicationError

MOST = 200


class DatasetVersionViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """The versions of a dataset, newest first; numbered from 1."""

    queryset = DatasetVersion.objects.none()
    serializer_class = VersionSerializer
    lookup_field = "number"
    lookup_value_regex = r"\d{1,9}"

    def get_queryset(self) -> QuerySet[DatasetVersion]:
        seen = Dataset.objects.visible_to(self.request.user)
        dataset = get_object_or_404(seen, pk=self.kwargs["dataset_pk"])
        versions = dataset.versions.select_related("dataset", "parent")
        return versions.defer("report", "pins") if self.action == "list" else versions

    def get_serializer_class(self) -> type[VersionSummarySerializer]:
        return VersionSummarySerializer if self.action == "list" else VersionSerializer

    def perform_destroy(self, version: DatasetVersion) -> None:
        own_only(self.request, version.dataset)
        services.version_delete(version=version)

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    @action(detail=True)
    def report(self, request: Request, **_: Any) -> Response:
        """Problems by kind with the first of each, lengths, languages, splits."""
        return Response(self.get_object().report)

    @extend_schema(responses={(200, "application/gzip"): OpenApiTypes.BINARY})
    @action(detail=True)
    def problems(self, request: Request, **_: Any) -> StreamingHttpResponse:
        """Every problem with its line, field and how to mend it: gzipped JSON lines."""
        return problems_response(self.get_object())

    @extend_schema(request=None, responses=VersionSerializer)
    @action(detail=True, methods=["post"])
    def drop_bad_rows(self, request: Request, **_: Any) -> Response:
        """Lets the version be trained on without its rows that have errors."""
        version = self.get_object()
        own_only(request, version.dataset)
        services.bad_rows_drop(version=version, user=request.user)
        return Response(self.get_serializer(version).data)

    @extend_schema(
        parameters=[
            OpenApiParameter("split", str, enum=["train", "validation", "test"]),
            OpenApiParameter("page", int, description="from 1"),
            OpenApiParameter("page_size", int, description=f"at most {MOST}"),
            OpenApiParameter("search", str, description="words that the row must hold"),
            OpenApiParameter("start", int, description="of a search: the row to go on from"),
        ],
        responses={200: OpenApiTypes.OBJECT},
    )
    @action(detail=True)
    def rows(self, request: Request, **_: Any) -> Response:
        """A page of rows. A search looks through so many rows at a time: go on from `next`."""
        version = self.get_object()
        split = selectors.check_split(request.query_params.get("split", ""))
        size = min(_number(request, "page_size", 25), MOST)
        words = request.query_params.get("search", "").strip()
        if words:
            start = _number(request, "start", 0, least=0)
            page = selectors.rows_search(version, words, split=split, start=start, size=size)
        else:
            at = _number(request, "page", 1)
            page = selectors.rows_page(version, split=split, page=at, size=size)
        rows = [_row_json(request, version, row) for row in page.rows]
        return Response({"count": page.total, "next": page.next, "results": rows})

    @extend_schema(
        parameters=[OpenApiParameter("row", int, "path", description="from 0")],
        responses={(200, "image/png"): OpenApiTypes.BINARY},
    )
    @action(detail=True, url_path=r"rows/(?P<row>\d{1,9})/image", url_name="row-image")
    def row_image(self, request: Request, row: str, **_: Any) -> HttpResponse:
        """The picture of a line of OCR."""
        return picture_response(request, self.get_object(), int(row))

    @extend_schema(
        parameters=[OpenApiParameter("against", int, description="the other version's number")],
        responses={200: OpenApiTypes.OBJECT},
    )
    @action(detail=True)
    def diff(self, request: Request, **_: Any) -> Response:
        """Rows that this version has more and less than another; default: the one before it."""
        version = self.get_object()
        against = _number(request, "against", version.parent.number if version.parent else 0)
        other = get_object_or_404(version.dataset.versions, number=against)
        found = selectors.versions_diff(other, version)
        for name, of in (("added_rows", version), ("removed_rows", other)):
            found[name] = [_row_json(request, of, row) for row in found[name]]
        return Response(found)

    @extend_schema(
        parameters=[OpenApiParameter("split", str, enum=["train", "validation", "test"])],
        responses={(200, "application/gzip"): OpenApiTypes.BINARY},
    )
    @action(detail=True)
    def download(self, request: Request, **_: Any) -> StreamingHttpResponse:
        """The rows of a split, or all, as gzipped JSON lines in canonical form."""
        split = selectors.check_split(request.query_params.get("split", ""))
        return rows_response(self.get_object(), split)


def _row_json(request: Request, version: DatasetVersion, shown: ShownRow) -> dict[str, Any]:
    row = {"number": shown.number, "line": shown.line, "split": shown.split}
    row |= selectors.without_picture(shown.row)
    if version.dataset.kind == "ocr":
        place = f"{version.get_absolute_url().rstrip('/')}/rows/{shown.number}/image"
        row["image_url"] = request.build_absolute_uri(place)
    return row


def _number(request: Request, name: str, default: int, *, least: int = 1) -> int:
    """A whole number out of the query. Raises ApplicationError for what is none."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise ApplicationError(
            f"{name}: a whole number from {least}.", code="out_of_range", param=name
        )
    return int(text)
