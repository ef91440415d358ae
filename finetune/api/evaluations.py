"""`/api/v1/finetune/evaluations/`: models side by side on rows that none was trained on."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, parsers, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from finetune.api.rights import own_or_may
from finetune.evaluation.browsing import ORDERS, as_json, chosen, rows_compared, rows_ordered
from finetune.evaluation.metrics import METRICS
from finetune.models import Evaluation, EvaluationSide
from finetune.selectors import dataset_version_find
from finetune.services import evaluations as services
from finetune.services.deletion import evaluation_delete
from mlops.api.idempotency import once
from mlops.models import Job
from mlops.services import job_cancel, job_retry

CHANGE = "finetune.change_evaluation"


class EvaluationCreateSerializer(serializers.Serializer):
    name = serializers.CharField(default="", allow_blank=True, max_length=200)
    models = serializers.ListField(
        child=serializers.CharField(),
        min_length=1,
        max_length=services.MOST_SIDES,
        help_text="language models by name, versions as name@number, or ocr:engine",
    )
    dataset = serializers.CharField(help_text="id, or the name of one of yours")
    version = serializers.CharField(default="latest", help_text="its number, or 'latest'")
    split = serializers.ChoiceField(choices=["train", "validation", "test"], default="test")
    metrics = serializers.ListField(
        child=serializers.ChoiceField(choices=list(METRICS)),
        default=list,
        help_text="empty: all that such rows have",
    )
    rows = serializers.IntegerField(
        default=1000, min_value=0, max_value=services.MOST_ROWS, help_text="at most; 0: all"
    )
    max_tokens = serializers.IntegerField(default=256, min_value=1, help_text="of an answer")
    seed = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)
    samples = serializers.IntegerField(
        default=1000, min_value=100, max_value=10_000, help_text="draws of the bootstrap"
    )
    device = serializers.CharField(default="auto", help_text="auto, cpu, cuda or cuda:N")
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(default="", allow_blank=True, max_length=500)


class SideSerializer(serializers.ModelSerializer):
    model = serializers.CharField(source="model.name", default=None, read_only=True)

    class Meta:
        model = EvaluationSide
        fields = ["position", "label", "model", "version", "ocr_engine"]


class EvaluationSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="evaluation-detail")
    dataset = serializers.CharField(source="dataset_label", read_only=True)
    sides = SideSerializer(many=True, read_only=True)
    progress = serializers.SerializerMethodField(help_text="rows, of all sides")
    error = serializers.SerializerMethodField()
    owner = serializers.StringRelatedField()
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)
    result = serializers.JSONField(
        read_only=True,
        help_text="figures with 95 % intervals, and the differences between any two sides",
    )

    class Meta:
        model = Evaluation
        fields = [
            *("id", "url", "name", "status", "progress", "dataset", "dataset_version", "split"),
            *("metrics", "options", "sides", "result", "priority", "owner", "attempts"),
            *("cancel_requested", "error", "created_at", "started_at", "finished_at"),
            "mlflow_run",
        ]

    def get_progress(self, job: Evaluation) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: Evaluation) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None


class PromoteSerializer(serializers.Serializer):
    position = serializers.IntegerField(
        required=False, min_value=0, help_text="of the side; default: the one that is better"
    )


class PromotedSerializer(serializers.Serializer):
    name = serializers.CharField(help_text="what requests call")
    model = serializers.CharField(help_text="what answers them from now on")


class EvaluationViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your evaluations; people of the console see everybody's."""

    queryset = Evaluation.objects.none()
    serializer_class = EvaluationSerializer
    filterset_fields = {"status": ["exact"], "dataset_version": ["exact"], "split": ["exact"]}
    parser_classes = [parsers.JSONParser]
    lookup_value_regex = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def get_queryset(self) -> QuerySet[Evaluation]:
        jobs = Evaluation.objects.visible_to(self.request.user)
        return jobs.select_related("owner").prefetch_related("sides__model")

    @extend_schema(request=EvaluationCreateSerializer, responses={202: EvaluationSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; `Location` is where to poll. `Idempotency-Key` is obeyed."""
        given = EvaluationCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        dataset, number = options.pop("dataset"), options.pop("version")

        def make() -> Evaluation:
            version = dataset_version_find(request.user, dataset, number)
            return services.evaluation_submit(
                owner=request.user, dataset_version=version, **options
            )

        job, headers = once(request, make)
        return self._accepted(job, headers)

    @extend_schema(request=None, responses={202: EvaluationSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """What has been answered is kept; a retry goes on from there."""
        job = self._own()
        job_cancel(job=job)
        return self._accepted(job)

    @extend_schema(request=None, responses={202: EvaluationSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """A failed or cancelled one answers the rows that are missing."""
        job = self._own()
        job_retry(job=job)
        return self._accepted(job)

    @extend_schema(request=PromoteSerializer, responses=PromotedSerializer)
    @action(detail=True, methods=["post"])
    def promote(self, request: Request, **_: Any) -> Response:
        """Gives all requests of its name to the better side, or to the one at `position`."""
        given = PromoteSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        job = self._own()
        alias = services.evaluation_promote(evaluation=job, **given.validated_data)
        (target,) = alias.targets.select_related("model")
        return Response({"name": alias.name, "model": target.model.name})

    @extend_schema(
        parameters=[
            OpenApiParameter("metric", str, description="to order by; default: the first"),
            OpenApiParameter("order", str, enum=ORDERS, description="default: worst"),
            OpenApiParameter("a", int, description="place of the side to compare with, from 0"),
            OpenApiParameter("b", int, description="place of the side that is ordered by"),
        ],
        responses={200: OpenApiTypes.OBJECT},
    )
    @action(detail=True, filterset_fields=None)
    def rows(self, request: Request, **_: Any) -> Response:
        """What each side made of a row, beside the truth: the worst first, or by difference."""
        job = self.get_object()
        look = chosen(job, request.query_params.dict())
        page = self.paginate_queryset(rows_ordered(job, look))
        found = [as_json(row) for row in rows_compared(job, look, page)]
        return self.get_paginated_response(found)

    def perform_destroy(self, job: Evaluation) -> None:
        """Of an evaluation that has ended: with its answers and figures."""
        own_or_may(self.request, job, "finetune.delete_evaluation")
        evaluation_delete(evaluation=job)

    def _own(self) -> Evaluation:
        job = self.get_object()
        own_or_may(self.request, job, CHANGE)
        return job

    def _accepted(self, job: Job, headers: dict[str, str] | None = None) -> Response:
        job = self.get_queryset().get(pk=job.pk)
        data = self.get_serializer(job).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)
