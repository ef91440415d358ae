"""`/api/v1/finetune/jobs/` and `/methods/`: train models, follow it, stop it, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, parsers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from finetune.api.rights import own_or_may
from finetune.api.training_serializers import (
    CheckpointSerializer,
    CurvesSerializer,
    MethodSerializer,
    TrainingEventSerializer,
    TrainingJobCreateSerializer,
    TrainingJobSerializer,
    TrainingJobSummarySerializer,
)
from finetune.curves import DEFAULT, MOST, curve_points
from finetune.method_options import methods
from finetune.models import TrainingJob
from finetune.selectors import dataset_version_find, training_base_find
from finetune.services import training as services
from finetune.services.deletion import training_job_delete
from mlops.api.idempotency import once
from mlops.exceptions import ApplicationError
from mlops.models import Job, User

CHANGE = "finetune.change_trainingjob"
NUMBER = OpenApiTypes.INT


def submit(user: User, given: dict[str, Any], **more: Any) -> TrainingJob:
    """A job of what a request asks for. Raises ApplicationError."""
    options = {name: given[name] for name in ("name", "method", "priority", "webhook_url")}
    validation = None
    if given["validation_dataset"]:
        validation = dataset_version_find(
            user, given["validation_dataset"], given["validation_version"], param="validation"
        )
    return services.training_job_submit(
        owner=user,
        base=training_base_find(given["base"]) if given["base"] else None,
        dataset_version=dataset_version_find(user, given["dataset"], given["version"]),
        validation_version=validation,
        options=given.get("options"),
        **options,
        **more,
    )


@extend_schema_view(
    list=extend_schema(description="Training jobs, newest first."),
    retrieve=extend_schema(description="How it stands, what it does, and what came of it."),
)
class TrainingJobViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your training jobs; people of the console see everybody's."""

    queryset = TrainingJob.objects.none()
    serializer_class = TrainingJobSerializer
    filterset_fields = {
        "status": ["exact"],
        "method": ["exact"],
        "name": ["exact", "icontains"],
        "base_name": ["exact"],
        "dataset_version": ["exact"],
        "dataset_version__dataset": ["exact"],
        "dry_run": ["exact"],
        "parent": ["exact"],
        "created_at": ["gte", "lte"],
    }
    parser_classes = [parsers.JSONParser]
    lookup_value_regex = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def get_queryset(self) -> QuerySet[TrainingJob]:
        jobs = TrainingJob.objects.visible_to(self.request.user).select_related("owner")
        if self.action == "list":
            return jobs.defer("dry_report", "request", "traceback")
        return jobs.select_related("validation_version__dataset").prefetch_related(
            "versions__language_model"
        )

    def get_serializer_class(self) -> type[TrainingJobSummarySerializer]:
        return TrainingJobSummarySerializer if self.action == "list" else TrainingJobSerializer

    @extend_schema(request=TrainingJobCreateSerializer, responses={202: TrainingJobSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; `Location` is where to poll. `Idempotency-Key` is obeyed.

        All that can be known before the run is checked first: options, the base, and whether the
        dataset's version can be trained on.
        """
        given = TrainingJobCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        more = {name: given.validated_data[name] for name in ("dry_run", "serve")}
        job, headers = once(request, lambda: submit(request.user, given.validated_data, **more))
        return self._accepted(job, headers)

    # -- stop and go on -----------------------------------------------------------------------

    @extend_schema(request=None, responses={202: TrainingJobSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """A running job saves a checkpoint first; it is `cancelled` once its memory is free."""
        return self._act(services.training_job_cancel)

    @extend_schema(request=None, responses={202: TrainingJobSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, **_: Any) -> Response:
        """A running job saves a checkpoint and gives its device to others until `resume`."""
        return self._act(services.training_job_pause)

    @extend_schema(request=None, responses={202: TrainingJobSerializer})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, **_: Any) -> Response:
        """A paused job goes on from its last checkpoint."""
        return self._act(services.training_job_resume)

    @extend_schema(request=None, responses={202: TrainingJobSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """A failed or cancelled job is queued again and goes on from its last checkpoint."""
        return self._act(services.training_job_retry)

    def perform_destroy(self, job: TrainingJob) -> None:
        """Of a job that has ended: its curves and checkpoints go, versions that came of it stay."""
        own_or_may(self.request, job, "finetune.delete_trainingjob")
        training_job_delete(job=job)

    def _act(self, service: Callable[..., None]) -> Response:
        job = self.get_object()
        own_or_may(self.request, job, CHANGE)
        service(job=job)
        return self._accepted(job)

    # -- what it tells ------------------------------------------------------------------------

    @extend_schema(
        parameters=[
            OpenApiParameter("after", NUMBER, description="the `cursor` of the answer before"),
            OpenApiParameter("most", NUMBER, description=f"points, about; {DEFAULT} by default"),
        ],
        responses=CurvesSerializer,
    )
    @action(detail=True, pagination_class=None, filterset_fields=None)
    def metrics(self, request: Request, **_: Any) -> Response:
        """The points of the curves: all, thinned where there are many, or those after a cursor.

        A job that went on from a checkpoint gives steps again that are known already: drop the
        known points from the first such step on.
        """
        after = _number(request, "after", 0, 0, 2**63 - 1)
        most = _number(request, "most", DEFAULT, 10, MOST)
        return Response(curve_points(self.get_object(), after=after, most=most))

    @extend_schema(responses=TrainingEventSerializer(many=True))
    @action(detail=True, filterset_fields=None)
    def events(self, request: Request, **_: Any) -> Response:
        """What happened, newest first. As a stream: `events/stream`."""
        page = self.paginate_queryset(self.get_object().events.order_by("-pk"))
        return self.get_paginated_response(TrainingEventSerializer(page, many=True).data)

    @extend_schema(responses=CheckpointSerializer(many=True))
    @action(detail=True, filterset_fields=None)
    def checkpoints(self, request: Request, **_: Any) -> Response:
        """Newest first; of those that made room for newer ones the figures are left."""
        page = self.paginate_queryset(self.get_object().checkpoints.order_by("-step"))
        return self.get_paginated_response(CheckpointSerializer(page, many=True).data)

    def _accepted(self, job: Job, headers: dict[str, str] | None = None) -> Response:
        job = self.get_queryset().get(pk=job.pk)
        data = TrainingJobSerializer(job, context=self.get_serializer_context()).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


class MethodsView(APIView):
    @extend_schema(operation_id="finetune_methods", responses=MethodSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Methods of training, what each learns from, and its options with their limits."""
        return Response(MethodSerializer(methods(), many=True).data)


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or len(text) > 19 or not least <= int(text) <= most:
        raise ApplicationError(
            f"{name}: a whole number from {least} to {most}.", code="invalid_value", param=name
        )
    return int(text)
