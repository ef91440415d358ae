"""`/api/v1/llm/extractions/`: values out of documents, one by one and many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, parsers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from llm import extraction_export
from llm.api.extraction_serializers import (
    ExtractionBatchCreateSerializer,
    ExtractionBatchSerializer,
    ExtractionCreateSerializer,
    ExtractionSerializer,
    TemplateSerializer,
    ValueSerializer,
    VersionSerializer,
)
from llm.extraction_export import to_csv
from llm.models import ExtractionBatch, ExtractionJob, ExtractionTemplate
from llm.services import extraction_review as review
from llm.services import extractions as services
from llm.services.extraction_templates import template_save
from mlops.api.idempotency import once
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job
from mlops.services import job_cancel
from ocr.models import Document, OcrBatch, OcrJob

FORMATS = {
    "csv": ("text/csv; charset=utf-8", to_csv),
    "jsonl": ("application/x-ndjson", extraction_export.jsonl),
}
UUID = r"[0-9a-f-]{32,36}"


class ExtractionFilter(filters.FilterSet):
    """What a list and an export may be narrowed by."""

    template = filters.CharFilter(field_name="template__name")
    batch = filters.UUIDFilter(field_name="parent")
    model = filters.CharFilter(field_name="model_name")
    accepted = filters.BooleanFilter(field_name="accepted_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = ExtractionJob
        fields = {
            "status": ["exact"],
            "document": ["exact"],
            "ocr_job": ["exact"],
            "engine": ["exact"],
            "created_at": ["gte", "lte"],
        }


class ExtractionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet):
    """Your extractions; operators see everybody's.

    A change names the `version` that you saw. 409 says that somebody was there first; the answer
    then holds the extraction as it is now in `extraction`.
    """

    queryset = ExtractionJob.objects.none()
    serializer_class = ExtractionSerializer
    filterset_class = ExtractionFilter
    parser_classes = [parsers.JSONParser, parsers.MultiPartParser, parsers.FormParser]
    lookup_value_regex = UUID

    def get_queryset(self) -> QuerySet[ExtractionJob]:
        rows = ExtractionJob.objects.visible_to(self.request.user)
        return rows.select_related("document", "template", "reviewer")

    def handle_exception(self, error: Exception) -> Response:
        response = super().handle_exception(error)
        if isinstance(error, review.ExtractionConflict):
            response.data |= {"extraction": self.get_serializer(error.job).data}
        return response

    @extend_schema(request=ExtractionCreateSerializer, responses={202: ExtractionSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; a document that has not been read is read first."""
        given = ExtractionCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        document, file, ocr_job = (
            options.pop(name, None) for name in ("document", "file", "ocr_job")
        )

        def make() -> ExtractionJob:
            if file is not None:
                return services.extraction_upload(
                    file=file, owner=request.user, source=Document.Source.API, **options
                )
            if ocr_job is not None:
                jobs = OcrJob.objects.visible_to(request.user).select_related("document")
                read = get_object_or_404(jobs, pk=ocr_job)
                return services.extraction_submit(owner=request.user, ocr_job=read, **options)
            documents = Document.objects.visible_to(request.user)
            return services.extraction_submit(
                owner=request.user, document=get_object_or_404(documents, pk=document), **options
            )

        job, headers = once(request, make)
        return self._accepted(job, headers)

    @extend_schema(request=None, responses={202: ExtractionSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """A queued one ends at once; what a model is writing is cut off."""
        job = self.get_object()
        job_cancel(job=job)
        return self._accepted(job)

    @extend_schema(request=None, responses={202: ExtractionSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Queues a failed or cancelled one again; its document is read again if that failed."""
        job = self.get_object()
        services.extraction_retry(job=job)
        return self._accepted(job)

    @extend_schema(request=ValueSerializer, responses=ExtractionSerializer)
    @action(detail=True, methods=["post"])
    def correct(self, request: Request, **_: Any) -> Response:
        """Another value for one field; a text is brought to the field's type where it can be."""
        return self._reviewed(review.value_change, ValueSerializer)

    @extend_schema(request=VersionSerializer, responses=ExtractionSerializer)
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, **_: Any) -> Response:
        """Vouches for the values."""
        return self._reviewed(review.extraction_accept, VersionSerializer)

    @extend_schema(request=None, responses=ExtractionSerializer)
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, **_: Any) -> Response:
        """Lets accepted values be changed again."""
        return self._reviewed(review.extraction_reopen)

    @extend_schema(
        parameters=[OpenApiParameter("format", str, enum=list(FORMATS), default="csv")],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    @action(detail=False)
    def export(self, request: Request) -> StreamingHttpResponse:
        """All that the same filters as a list's leave over, the oldest first."""
        form = request.query_params.get("format", "csv")
        if form not in FORMATS:
            raise ApplicationError(
                f"There is no format '{form}'. Choose from: {', '.join(FORMATS)}.",
                code="unknown_format",
                param="format",
            )
        media_type, write = FORMATS[form]
        jobs = self.filter_queryset(self.get_queryset()).order_by("created_at", "pk")
        response = StreamingHttpResponse(write(jobs), content_type=media_type)
        response["Content-Disposition"] = f'attachment; filename="extractions.{form}"'
        return response

    def _reviewed(
        self, change: Callable[..., ExtractionJob], kind: type[Any] | None = None
    ) -> Response:
        given = kind(data=self.request.data) if kind else None
        if given:
            given.is_valid(raise_exception=True)
        options = given.validated_data if given else {}
        job = change(job=self.get_object(), user=self.request.user, **options)
        return Response(self.get_serializer(job).data)

    def _accepted(self, job: Job, headers: dict[str, str] | None = None) -> Response:
        data = self.get_serializer(self.get_queryset().get(pk=job.pk)).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


class ExtractionBatchViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """Your batches; operators see everybody's. Their values: `?batch=` of list and export."""

    queryset = ExtractionBatch.objects.none()
    serializer_class = ExtractionBatchSerializer
    filterset_fields = {"status": ["exact"], "name": ["exact", "icontains"]}
    parser_classes = [parsers.JSONParser, parsers.MultiPartParser, parsers.FormParser]
    lookup_value_regex = UUID

    def get_queryset(self) -> QuerySet[ExtractionBatch]:
        return ExtractionBatch.objects.visible_to(self.request.user).select_related("template")

    @extend_schema(
        request=ExtractionBatchCreateSerializer, responses={202: ExtractionBatchSerializer}
    )
    def create(self, request: Request) -> Response:
        """`documents` (ids), `files` (uploads) and `ocr_batch` (an id), any or all of them."""
        given = ExtractionBatchCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        keys, ocr_batch = options.pop("documents", []), options.pop("ocr_batch", None)

        def make() -> ExtractionBatch:
            batches = OcrBatch.objects.visible_to(request.user)
            return services.extraction_batch_submit(
                owner=request.user,
                source=Document.Source.API,
                documents=_documents(request, keys),
                ocr_batch=get_object_or_404(batches, pk=ocr_batch) if ocr_batch else None,
                **options,
            )

        batch, headers = once(request, make)
        return self._accepted(batch, headers)

    @extend_schema(request=None, responses={202: ExtractionBatchSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        batch = self.get_object()
        job_cancel(job=batch)
        return self._accepted(batch)

    @extend_schema(request=None, responses={202: ExtractionBatchSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Goes over what failed again; what was found is kept."""
        batch = self.get_object()
        services.extraction_batch_retry(job=batch)
        return self._accepted(batch)

    def _accepted(self, batch: Job, headers: dict[str, str] | None = None) -> Response:
        data = self.get_serializer(self.get_queryset().get(pk=batch.pk)).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


class TemplateViewSet(viewsets.ModelViewSet):
    """Everybody's templates and your own, by name; yours goes before everybody's."""

    queryset = ExtractionTemplate.objects.none()
    serializer_class = TemplateSerializer
    parser_classes = [parsers.JSONParser]
    lookup_field = "name"
    lookup_value_regex = r"[\w.-]+"
    http_method_names = ["get", "post", "patch", "delete"]

    def get_queryset(self) -> QuerySet[ExtractionTemplate]:
        user = self.request.user
        mine = ExtractionTemplate.objects.filter(owner=user)
        shared = ExtractionTemplate.objects.filter(owner=None).exclude(name__in=mine.values("name"))
        return (mine | shared).select_related("owner")

    def perform_create(self, serializer: TemplateSerializer) -> None:
        made = ExtractionTemplate(owner=self.request.user, **serializer.validated_data)
        serializer.instance = template_save(template=made)

    def perform_update(self, serializer: TemplateSerializer) -> None:
        template = self._own(serializer.instance)
        for name, value in serializer.validated_data.items():
            setattr(template, name, value)
        serializer.instance = template_save(template=template)

    def perform_destroy(self, template: ExtractionTemplate) -> None:
        self._own(template).delete()

    def _own(self, template: ExtractionTemplate) -> ExtractionTemplate:
        if template.owner_id != self.request.user.pk:
            raise NotAllowed(
                "This template is everybody's. Save it under your name to have your own."
            )
        return template


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
