"""`/api/v1/finetune/models/`: what training has left, what it is made of, and who calls it."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, parsers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from finetune.api.merges import (
    VersionMergeCreateSerializer,
    VersionMergeSerializer,
    accepted,
)
from finetune.api.rights import own_or_may
from finetune.api.training_serializers import (
    ModelVersionSerializer,
    ModelVersionSummarySerializer,
    VersionPromotedSerializer,
    VersionPromoteSerializer,
)
from finetune.downloads import model_file_response
from finetune.models import ModelVersion
from finetune.selectors import may_promote
from finetune.services import versions as services
from finetune.services.merges import version_merge
from mlops.api.idempotency import once
from mlops.exceptions import NotAllowed


@extend_schema_view(
    list=extend_schema(description="Versions of models that training has left, newest first."),
    retrieve=extend_schema(description="With its parity check, facts, model card and files."),
)
class ModelVersionViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your models' versions; people of the console see everybody's."""

    queryset = ModelVersion.objects.none()
    serializer_class = ModelVersionSerializer
    filterset_fields = {
        "name": ["exact", "icontains"],
        "form": ["exact"],
        "fitness": ["exact"],
        "job": ["exact"],
        "dataset_version": ["exact"],
        "created_at": ["gte", "lte"],
    }
    parser_classes = [parsers.JSONParser]

    def get_queryset(self) -> QuerySet[ModelVersion]:
        versions = ModelVersion.objects.visible_to(self.request.user)
        versions = versions.select_related("owner", "base", "language_model")
        return versions.order_by("-created_at", "-number")

    def get_serializer_class(self) -> type[ModelVersionSummarySerializer]:
        return ModelVersionSummarySerializer if self.action == "list" else ModelVersionSerializer

    def perform_destroy(self, version: ModelVersion) -> None:
        """With its files, and the model that requests call."""
        own_or_may(self.request, version, "finetune.delete_modelversion")
        services.version_delete(version=version)

    @extend_schema(responses={(200, "text/markdown"): OpenApiTypes.STR})
    @action(detail=True, filterset_fields=None)
    def card(self, request: Request, **_: Any) -> HttpResponse:
        """The model card, as Markdown."""
        return HttpResponse(self.get_object().card, content_type="text/markdown; charset=utf-8")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, filterset_fields=None)
    def parity(self, request: Request, **_: Any) -> Response:
        """How far what is served is from what was trained, and whether that is near enough."""
        version = self.get_object()
        return Response({"fitness": version.fitness, **version.parity})

    @extend_schema(
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH)],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    @action(detail=True, url_path=r"files/(?P<name>.+?)", filterset_fields=None)
    def file(self, request: Request, name: str, **_: Any) -> HttpResponseBase:
        """One of its files, by its name in `files`."""
        return model_file_response(self.get_object(), name)

    @extend_schema(request=VersionMergeCreateSerializer, responses={202: VersionMergeSerializer})
    @action(detail=True, methods=["post"], filterset_fields=None)
    def merge(self, request: Request, **_: Any) -> Response:
        """Merges an adapter into its base; what comes of it is a version of its own.

        Answers 202 at once; `Location` is where to poll. `Idempotency-Key` is obeyed.
        """
        given = VersionMergeCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        version = self.get_object()
        own_or_may(request, version, "finetune.change_modelversion")
        job, headers = once(
            request,
            lambda: version_merge(owner=request.user, version=version, **given.validated_data),
        )
        return accepted(request, job, headers)

    @extend_schema(request=VersionPromoteSerializer, responses=VersionPromotedSerializer)
    @action(detail=True, methods=["post"], filterset_fields=None)
    def promote(self, request: Request, **_: Any) -> Response:
        """Gives the version `weight` percent of the requests to its name.

        100: all of them, and it is MLflow's `champion`; less: the `challenger` beside the rest.
        """
        given = VersionPromoteSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        version = self.get_object()
        if not may_promote(request.user, version):
            raise NotAllowed(
                "The version, or another that the name stands for, is somebody else's.",
                code="permission_denied",
                status=403,
            )
        alias = services.version_promote(version=version, weight=given.validated_data["weight"])
        if alias is None:
            targets = [{"model": name, "weight": 100} for name in version.called_by]
            return Response({"alias": version.name, "targets": targets})
        found = alias.targets.select_related("model")
        targets = [{"model": one.model.name, "weight": one.weight} for one in found]
        return Response({"alias": alias.name, "targets": targets})
