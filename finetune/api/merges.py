"""`/api/v1/finetune/merges/`: adapters that become whole models."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, parsers, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from finetune.api.rights import own_or_may
from finetune.models import VersionMerge
from finetune.services.deletion import merge_delete
from mlops.services import job_cancel, job_retry

CHANGE = "finetune.change_versionmerge"


class VersionMergeCreateSerializer(serializers.Serializer):
    name = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="of the new version; default: the next number of the same",
    )
    device = serializers.CharField(
        default="auto", max_length=50, help_text="auto, cpu, cuda or cuda:N"
    )
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(default="", allow_blank=True, max_length=500)


class VersionMergeSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="versionmerge-detail")
    merged = serializers.CharField(source="version_label", read_only=True)
    progress = serializers.SerializerMethodField(help_text="phases")
    fitness = serializers.CharField(source="result.fitness", default=None, read_only=True)
    model = serializers.CharField(
        source="result.language_model.name",
        default=None,
        read_only=True,
        help_text="to be called by, if the result is fit",
    )
    error = serializers.SerializerMethodField()
    owner = serializers.StringRelatedField()

    class Meta:
        model = VersionMerge
        fields = [
            *("id", "url", "name", "status", "phase", "progress", "version", "merged", "device"),
            *("result", "fitness", "model", "priority", "owner", "attempts", "cancel_requested"),
            *("error", "created_at", "started_at", "finished_at"),
        ]

    def get_progress(self, job: VersionMerge) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: VersionMerge) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None


def merges_of(request: Request) -> QuerySet[VersionMerge]:
    jobs = VersionMerge.objects.visible_to(request.user)
    return jobs.select_related("owner", "result__language_model")


def accepted(
    request: Request, job: VersionMerge, headers: dict[str, str] | None = None
) -> Response:
    """202 with the job that was made or changed."""
    data = VersionMergeSerializer(
        merges_of(request).get(pk=job.pk), context={"request": request}
    ).data
    headers = {"Location": data["url"], **(headers or {})}
    return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)


class VersionMergeViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your merges; people of the console see everybody's. `models/{id}/merge` makes one."""

    queryset = VersionMerge.objects.none()
    serializer_class = VersionMergeSerializer
    filterset_fields = {"status": ["exact"], "version": ["exact"], "result": ["exact"]}
    parser_classes = [parsers.JSONParser]
    lookup_value_regex = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def get_queryset(self) -> QuerySet[VersionMerge]:
        return merges_of(self.request)

    @extend_schema(request=None, responses={202: VersionMergeSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Nothing is kept of a merge that was cancelled."""
        job = self._own()
        job_cancel(job=job)
        return accepted(request, job)

    @extend_schema(request=None, responses={202: VersionMergeSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """A failed or cancelled one begins anew."""
        job = self._own()
        job_retry(job=job)
        return accepted(request, job)

    def perform_destroy(self, job: VersionMerge) -> None:
        """Of a merge that has ended; what came of it stays."""
        own_or_may(self.request, job, "finetune.delete_versionmerge")
        merge_delete(merge=job)

    def _own(self) -> VersionMerge:
        job = self.get_object()
        own_or_may(self.request, job, CHANGE)
        return job
