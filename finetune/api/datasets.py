"""`/api/v1/finetune/datasets/` and `/api/v1/finetune/imports/`."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, parsers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from finetune import services
from finetune.api.serializers import (
    DatasetImportSerializer,
    DatasetSerializer,
    DatasetUploadSerializer,
    FromExtractionsSerializer,
    FromReviewsSerializer,
)
from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.product_rows import ACCEPTED
from llm.api.files import file_find
from mlops.api.idempotency import once
from mlops.exceptions import NotAllowed
from mlops.models import Job
from mlops.services import job_cancel


def accepted(request: Request, job: Job, headers: dict[str, str] | None = None) -> Response:
    """202 with the job that was made."""
    job = DatasetImport.objects.select_related("dataset", "version").get(pk=job.pk)
    data = DatasetImportSerializer(job, context={"request": request}).data
    headers = {"Location": data["url"], **(headers or {})}
    return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


class DatasetViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your datasets; people of the console see everybody's."""

    queryset = Dataset.objects.none()
    serializer_class = DatasetSerializer
    filterset_fields = {"name": ["exact", "icontains"], "kind": ["exact"]}
    parser_classes = [parsers.MultiPartParser, parsers.FormParser, parsers.JSONParser]

    def get_queryset(self) -> QuerySet[Dataset]:
        # A report is large and of no use in a list.
        versions = DatasetVersion.objects.defer("report", "pins")
        datasets = Dataset.objects.visible_to(self.request.user)
        return datasets.prefetch_related(Prefetch("versions", versions))

    @extend_schema(
        request={"multipart/form-data": DatasetUploadSerializer},
        responses={202: DatasetImportSerializer},
    )
    def create(self, request: Request) -> Response:
        """Takes in a file, one of `/v1/files`, or `hub:org/name`, as the dataset's next version.

        Answers 202 with the import at once; its `version` is there when it has succeeded.
        """
        given = DatasetUploadSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        pk, stored = options.pop("file_id"), None
        if pk:
            stored = file_find(request.user, pk)
        job, headers = once(
            request,
            lambda: services.dataset_import(owner=request.user, stored=stored, **options),
        )
        return accepted(request, job, headers)

    @extend_schema(request=FromReviewsSerializer, responses={202: DatasetImportSerializer})
    @action(detail=False, methods=["post"])
    def from_reviews(self, request: Request) -> Response:
        """Makes a version out of pages that people have corrected and accepted."""
        given = FromReviewsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = {"reviews": ACCEPTED, **given.validated_data}
        job, headers = once(
            request, lambda: services.dataset_from_reviews(owner=request.user, **options)
        )
        return accepted(request, job, headers)

    @extend_schema(request=FromExtractionsSerializer, responses={202: DatasetImportSerializer})
    @action(detail=False, methods=["post"])
    def from_extractions(self, request: Request) -> Response:
        """Makes a version out of accepted extractions: what a model is asked, and the values."""
        given = FromExtractionsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = {"extractions": ACCEPTED, **given.validated_data}
        job, headers = once(
            request, lambda: services.dataset_from_extractions(owner=request.user, **options)
        )
        return accepted(request, job, headers)

    def perform_destroy(self, dataset: Dataset) -> None:
        own_only(self.request, dataset)
        services.dataset_delete(dataset=dataset)


class DatasetImportViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """The jobs that take datasets in; yours, or everybody's for operators."""

    queryset = DatasetImport.objects.none()
    serializer_class = DatasetImportSerializer
    filterset_fields = {"status": ["exact"], "dataset": ["exact"]}

    def get_queryset(self) -> QuerySet[DatasetImport]:
        jobs = DatasetImport.objects.visible_to(self.request.user)
        return jobs.select_related("dataset", "version")

    @extend_schema(request=None, responses={202: DatasetImportSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Nothing is kept of an import that was cancelled."""
        job = self.get_object()
        job_cancel(job=job)
        return accepted(request, job)

    @extend_schema(request=None, responses={202: DatasetImportSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        job = self.get_object()
        services.import_retry(job=job)
        return accepted(request, job)


def own_only(request: Request, dataset: Dataset) -> None:
    """Who may look at everybody's datasets may change but their own. Raises NotAllowed."""
    user = request.user
    if dataset.owner_id != user.pk and not (
        user.sees_all or user.has_perm("finetune.change_dataset")
    ):
        raise NotAllowed("The dataset is somebody else's.", code="permission_denied", status=403)
