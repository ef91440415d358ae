"""What the API of training takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from finetune.engines.base import METRICS
from finetune.models import Checkpoint, ModelVersion, TrainingEvent, TrainingJob

LATEST = "latest"


class TrainingOptionsSerializer(serializers.Serializer):
    """What to train, on what, and how."""

    name = serializers.CharField(
        max_length=200, help_text="of the model that comes of it: letters, digits and . _ : / @ -"
    )
    method = serializers.ChoiceField(
        choices=TrainingJob.Method.choices, help_text="see /api/v1/finetune/methods"
    )
    base = serializers.CharField(
        default="", allow_blank=True, help_text="a language model's name; none for a recogniser"
    )
    dataset = serializers.CharField(help_text="id, or the name of one of yours")
    version = serializers.CharField(default=LATEST, help_text="its number, or 'latest'")
    validation_dataset = serializers.CharField(
        default="",
        allow_blank=True,
        help_text="rows to validate by, all of them; default: the version's own validation split",
    )
    validation_version = serializers.CharField(default=LATEST)
    options = serializers.DictField(
        required=False, help_text="see /api/v1/finetune/methods; what isn't given has its default"
    )
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(default="", allow_blank=True, max_length=500)


class TrainingJobCreateSerializer(TrainingOptionsSerializer):
    dry_run = serializers.BooleanField(
        default=False, help_text="look at everything, train nothing; see `dry_report` of the job"
    )
    serve = serializers.BooleanField(
        default=True, help_text="make what comes of it callable under its name"
    )


class DryRunSerializer(TrainingOptionsSerializer):
    wait = serializers.FloatField(
        default=30, min_value=0, max_value=120, help_text="seconds; after them 202 with the job"
    )


class TrainingJobSummarySerializer(serializers.ModelSerializer):
    """As a list has it: without options and reports."""

    url = serializers.HyperlinkedIdentityField(view_name="trainingjob-detail")
    paused = serializers.BooleanField(read_only=True)
    rows_seen = serializers.IntegerField(
        read_only=True, help_text="training rows learned from, each as often as it was"
    )
    progress = serializers.SerializerMethodField(help_text="in steps")
    error = serializers.SerializerMethodField()
    base = serializers.CharField(source="base_name", read_only=True)
    dataset = serializers.CharField(source="dataset_label", read_only=True)
    owner = serializers.StringRelatedField()
    parent = serializers.PrimaryKeyRelatedField(read_only=True, help_text="its sweep")
    estimated_finish = serializers.DateTimeField(read_only=True, allow_null=True)
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)

    class Meta:
        model = TrainingJob
        fields = [
            *("id", "url", "name", "method", "status", "paused", "phase", "progress", "epoch"),
            *("loss", "eval_loss", "tokens_per_second", "trained_tokens", "rows_seen"),
            "memory_bytes",
            *("device", "base", "dataset", "dataset_version", "dry_run", "serve", "priority"),
            *("owner", "parent", "attempts", "cancel_requested", "error", "estimated_finish"),
            *("created_at", "started_at", "finished_at", "mlflow_run"),
        ]

    def get_progress(self, job: TrainingJob) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: TrainingJob) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None


class ResultSerializer(serializers.ModelSerializer):
    """What came of a job."""

    url = serializers.HyperlinkedIdentityField(view_name="modelversion-detail")
    model = serializers.CharField(
        source="language_model.name", default=None, read_only=True, help_text="to be called by"
    )

    class Meta:
        model = ModelVersion
        fields = ["id", "url", "name", "number", "fitness", "model"]


class TrainingJobSerializer(TrainingJobSummarySerializer):
    openai_id = serializers.CharField(read_only=True, help_text="under /v1/fine_tuning/jobs")
    validation = serializers.CharField(source="validation_version", default=None, read_only=True)
    dry_report = serializers.JSONField(read_only=True, help_text="of a dry run that has ended")
    versions = ResultSerializer(many=True, read_only=True)

    class Meta(TrainingJobSummarySerializer.Meta):
        fields = [
            *TrainingJobSummarySerializer.Meta.fields,
            *("openai_id", "validation", "options", "settings_found", "dry_report", "versions"),
        ]


class TrainingEventSerializer(serializers.ModelSerializer):
    class Meta:
        model = TrainingEvent
        fields = ["id", "level", "message", "data", "created_at"]


class CheckpointSerializer(serializers.ModelSerializer):
    class Meta:
        model = Checkpoint
        fields = ["id", "step", "best", "metrics", "bytes", "removed", "created_at"]


class PointSerializer(serializers.Serializer):
    step = serializers.IntegerField()
    epoch = serializers.FloatField()
    at = serializers.FloatField(help_text="unix seconds")
    values = serializers.DictField(
        child=serializers.FloatField(), help_text=f"by name: {', '.join(METRICS)}"
    )


class CurvesSerializer(serializers.Serializer):
    points = PointSerializer(many=True)
    cursor = serializers.IntegerField(help_text="give it as `after` to get only what is newer")
    every = serializers.IntegerField(help_text="steps between points of a thinned run; 0: all")


class OptionSerializer(serializers.Serializer):
    name = serializers.CharField()
    type = serializers.ChoiceField(["integer", "number", "boolean", "string"])
    choices = serializers.ListField(
        child=serializers.CharField(), help_text="words that may stand for a value"
    )
    default = serializers.JSONField()
    least = serializers.FloatField(allow_null=True)
    most = serializers.FloatField(allow_null=True)
    help = serializers.CharField()
    group = serializers.CharField()


class MethodSerializer(serializers.Serializer):
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    dataset_kinds = serializers.ListField(child=serializers.CharField())
    needs_base = serializers.BooleanField()
    options = OptionSerializer(many=True)


class ModelVersionSummarySerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="modelversion-detail")
    owner = serializers.StringRelatedField()
    model = serializers.CharField(
        source="language_model.name", default=None, read_only=True, help_text="to be called by"
    )
    called_by = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text="a model's name, or OCR engines'"
    )
    base = serializers.CharField(source="base.name", default=None, read_only=True)
    dataset = serializers.SerializerMethodField()
    job = serializers.PrimaryKeyRelatedField(read_only=True)
    merged_from = serializers.PrimaryKeyRelatedField(read_only=True)

    class Meta:
        model = ModelVersion
        fields = [
            *("id", "url", "name", "number", "form", "fitness", "model", "called_by", "base"),
            *(
                "job",
                "step",
                "dataset",
                "dataset_version",
                "merged_from",
                "owner",
                "bytes",
                "registered_number",
            ),
            *("registered_at", "register_note", "mlflow_run_id", "created_at"),
        ]

    def get_dataset(self, version: ModelVersion) -> str:
        return str(version.facts.get("dataset", ""))


class ModelVersionSerializer(ModelVersionSummarySerializer):
    files = serializers.SerializerMethodField()

    class Meta(ModelVersionSummarySerializer.Meta):
        fields = [*ModelVersionSummarySerializer.Meta.fields, "parity", "facts", "card", "files"]

    def get_files(self, version: ModelVersion) -> list[dict[str, Any]]:
        request = self.context["request"]
        return [
            {
                "name": name,
                "bytes": size,
                "sha256": digest,
                "url": reverse("modelversion-file", args=[version.pk, name], request=request),
            }
            for name, (size, digest) in sorted(version.files.items())
        ]


class VersionPromoteSerializer(serializers.Serializer):
    weight = serializers.IntegerField(
        default=100, min_value=1, max_value=100, help_text="percent of the requests to its name"
    )


class VersionPromotedSerializer(serializers.Serializer):
    alias = serializers.CharField()
    targets = serializers.ListField(child=serializers.DictField())
