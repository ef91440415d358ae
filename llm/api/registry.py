"""`/api/v1/llm/models/` and `/aliases/`: what operators set up, load and unload."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request
from rest_framework.response import Response

from llm.models import AliasTarget, LanguageModel, ModelAlias, ModelInstance
from llm.services.models import (
    alias_save,
    model_delete,
    model_save,
    model_unload,
    model_warm,
)
from mlops.auth import PolicyAllows

WEIGHT = 100


class MayRead(DjangoModelPermissions):
    """Reading needs its permission as well: sources name folders and servers."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
    }


class ModelInstanceSerializer(serializers.ModelSerializer):
    class Meta:
        model = ModelInstance
        fields = [
            *("worker", "state", "device", "memory_bytes", "active_requests", "error"),
            *("loaded_at", "seen_at"),
        ]


class LanguageModelSerializer(serializers.ModelSerializer):
    base = serializers.SlugRelatedField(
        slug_field="name",
        queryset=LanguageModel.objects.filter(base=None),
        required=False,
        allow_null=True,
        help_text="for an adapter: the name of the model it was trained on",
    )
    instances = ModelInstanceSerializer(many=True, read_only=True)

    class Meta:
        model = LanguageModel
        fields = [
            *("id", "name", "base", "task", "engine", "source", "dtype", "device"),
            *("quantization", "context_length", "chat_template", "options", "enabled", "warm"),
            *("queue", "store_texts", "trace", "notes", "mlflow_run_id", "instances"),
            *("created_at", "changed_at"),
        ]

    def create(self, validated_data: dict[str, Any]) -> LanguageModel:
        return model_save(model=LanguageModel(), **validated_data)

    def update(self, instance: LanguageModel, validated_data: dict[str, Any]) -> LanguageModel:
        return model_save(model=instance, **validated_data)


class AliasTargetSerializer(serializers.ModelSerializer):
    model = serializers.SlugRelatedField(
        slug_field="name", queryset=LanguageModel.objects.all(), help_text="its name"
    )
    weight = serializers.IntegerField(default=WEIGHT, min_value=0)

    class Meta:
        model = AliasTarget
        fields = ["model", "weight"]


class ModelAliasSerializer(serializers.ModelSerializer):
    targets = AliasTargetSerializer(many=True)

    class Meta:
        model = ModelAlias
        fields = ["id", "name", "targets", "created_at"]

    def create(self, validated_data: dict[str, Any]) -> ModelAlias:
        return self._save(ModelAlias(), validated_data)

    def update(self, instance: ModelAlias, validated_data: dict[str, Any]) -> ModelAlias:
        return self._save(instance, validated_data)

    def _save(self, alias: ModelAlias, given: dict[str, Any]) -> ModelAlias:
        targets = given.get("targets")
        if targets is None:
            pairs = [(one.model, one.weight) for one in alias.targets.select_related("model")]
        else:
            # Of a change, what isn't given has no default.
            pairs = [(one["model"], one.get("weight", WEIGHT)) for one in targets]
        return alias_save(alias=alias, name=given.get("name", alias.name), targets=pairs)


class LanguageModelViewSet(viewsets.ModelViewSet):
    """Models and adapters; for operators."""

    serializer_class = LanguageModelSerializer
    permission_classes = [PolicyAllows, MayRead]
    queryset = LanguageModel.objects.select_related("base").prefetch_related("instances")
    filterset_fields = ["name", "task", "engine", "enabled", "warm"]
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def perform_destroy(self, instance: LanguageModel) -> None:
        model_delete(model=instance)

    @extend_schema(request=None, responses={202: LanguageModelSerializer})
    @action(detail=True, methods=["post"])
    def load(self, request: Request, **_: Any) -> Response:
        """Workers load it within seconds, and keep it in memory; see `instances`."""
        return self._asked(model_warm)

    @extend_schema(request=None, responses={202: LanguageModelSerializer})
    @action(detail=True, methods=["post"])
    def unload(self, request: Request, **_: Any) -> Response:
        """Workers give its memory back once it is idle; the next request loads it again."""
        return self._asked(model_unload)

    def _asked(self, service: Any) -> Response:
        service(model=self.get_object())
        return Response(
            self.get_serializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED
        )


class ModelAliasViewSet(viewsets.ModelViewSet):
    """Names that stand for a model, or share their requests out by weight; for operators."""

    serializer_class = ModelAliasSerializer
    permission_classes = [PolicyAllows, MayRead]
    filterset_fields = ["name"]
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def get_queryset(self) -> QuerySet[ModelAlias]:
        return ModelAlias.objects.prefetch_related("targets__model")
