"""`/api/v1/finetune/sweeps/`: the same training with different options, the best of them served."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, parsers, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from finetune.api.rights import own_or_may
from finetune.models import Sweep, TrainingJob
from finetune.selectors import dataset_version_find, training_base_find
from finetune.services import sweeps as services
from finetune.services.deletion import sweep_delete
from finetune.sweeps.space import MOST_TRIALS
from finetune.sweeps.view import trials_shown
from mlops.api.idempotency import once
from mlops.models import Job
from mlops.services import job_cancel, job_retry

CHANGE = "finetune.change_sweep"


class SweepCreateSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=200, help_text="of the models that come of it")
    method = serializers.ChoiceField(choices=TrainingJob.Method.choices)
    base = serializers.CharField(
        default="", allow_blank=True, help_text="a language model's name; none for a recogniser"
    )
    dataset = serializers.CharField(help_text="id, or the name of one of yours")
    version = serializers.CharField(default="latest", help_text="its number, or 'latest'")
    options = serializers.DictField(default=dict, help_text="what all trials have")
    space = serializers.DictField(
        help_text='option: list of values, or {"low", "high", "log"} for Optuna'
    )
    search = serializers.ChoiceField(choices=Sweep.Search.choices, default=Sweep.Search.GRID)
    trials = serializers.IntegerField(
        default=10, min_value=1, max_value=MOST_TRIALS, help_text="at most, for Optuna"
    )
    parallel = serializers.IntegerField(default=1, min_value=1, max_value=32)
    metric = serializers.CharField(default="eval_loss", help_text="by which the best is chosen")
    prune = serializers.BooleanField(
        default=True, help_text="end trials that are behind the median of the others"
    )
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(default="", allow_blank=True, max_length=500)


class SweepSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="sweep-detail")
    base = serializers.CharField(source="base.name", default=None, read_only=True)
    dataset = serializers.CharField(source="dataset_label", read_only=True)
    progress = serializers.SerializerMethodField(help_text="steps, of the trials begun")
    best = serializers.SerializerMethodField(help_text="the trial's number, once all have ended")
    model = serializers.CharField(
        source="best.model_name", default=None, read_only=True, help_text="to call the best by"
    )
    error = serializers.SerializerMethodField()
    owner = serializers.StringRelatedField()
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)

    class Meta:
        model = Sweep
        fields = [
            *("id", "url", "name", "status", "progress", "method", "base", "dataset"),
            *("dataset_version", "options", "space", "search", "trials", "parallel", "metric"),
            *("minimize", "prune", "best", "model", "priority", "owner", "cancel_requested"),
            *("error", "created_at", "started_at", "finished_at", "mlflow_run"),
        ]

    def get_progress(self, sweep: Sweep) -> dict[str, int]:
        return {"done": sweep.progress_done, "total": sweep.progress_total}

    def get_best(self, sweep: Sweep) -> int | None:
        return sweep.best.trial if sweep.best else None

    def get_error(self, sweep: Sweep) -> dict[str, str] | None:
        return {"code": sweep.error_code, "message": sweep.error} if sweep.error else None


class SweepDetailSerializer(SweepSerializer):
    tried = serializers.SerializerMethodField(help_text="a row a trial")

    class Meta(SweepSerializer.Meta):
        fields = [*SweepSerializer.Meta.fields, "tried"]

    def get_tried(self, sweep: Sweep) -> list[dict[str, Any]]:
        request = self.context["request"]
        return [
            {
                "trial": one.job.trial,
                "job": reverse("trainingjob-detail", args=[one.job.pk], request=request),
                "status": "pruned" if one.pruned else one.job.status,
                "values": one.job.trial_values,
                "value": one.value,
                "best": one.best,
            }
            for one in trials_shown(sweep)
        ]


class SweepViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    """Your sweeps; people of the console see everybody's."""

    queryset = Sweep.objects.none()
    serializer_class = SweepDetailSerializer
    filterset_fields = {"status": ["exact"], "method": ["exact"], "dataset_version": ["exact"]}
    parser_classes = [parsers.JSONParser]
    lookup_value_regex = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def get_queryset(self) -> QuerySet[Sweep]:
        sweeps = Sweep.objects.visible_to(self.request.user)
        return sweeps.select_related("owner", "base", "best")

    def get_serializer_class(self) -> type[SweepSerializer]:
        return SweepSerializer if self.action == "list" else SweepDetailSerializer

    @extend_schema(request=SweepCreateSerializer, responses={202: SweepDetailSerializer})
    def create(self, request: Request) -> Response:
        """Answers 202 at once; the trials are training jobs whose `parent` is the sweep."""
        given = SweepCreateSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        dataset, number, base = (options.pop(name) for name in ("dataset", "version", "base"))

        def make() -> Sweep:
            return services.sweep_submit(
                owner=request.user,
                base=training_base_find(base) if base else None,
                dataset_version=dataset_version_find(request.user, dataset, number),
                **options,
            )

        sweep, headers = once(request, make)
        return self._accepted(sweep, headers)

    @extend_schema(request=None, responses={202: SweepDetailSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Trials that run save a checkpoint first; those that wait never begin."""
        sweep = self.get_object()
        own_or_may(request, sweep, CHANGE)
        job_cancel(job=sweep)
        return self._accepted(sweep)

    @extend_schema(request=None, responses={202: SweepDetailSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Of a sweep that failed before its trials were made."""
        sweep = self.get_object()
        own_or_may(request, sweep, CHANGE)
        job_retry(job=sweep)
        return self._accepted(sweep)

    def perform_destroy(self, sweep: Sweep) -> None:
        """Of a sweep that has ended: its trials go with it, versions that came of them stay."""
        own_or_may(self.request, sweep, "finetune.delete_sweep")
        sweep_delete(sweep=sweep)

    def _accepted(self, sweep: Job, headers: dict[str, str] | None = None) -> Response:
        sweep = self.get_queryset().get(pk=sweep.pk)
        data = SweepDetailSerializer(sweep, context=self.get_serializer_context()).data
        headers = {"Location": data["url"], **(headers or {})}
        return Response(data, status=status.HTTP_202_ACCEPTED, headers=headers)
