"""What the API of datasets takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from finetune.formats import FORMATS
from finetune.models import Dataset, DatasetImport, DatasetVersion
from finetune.product_rows import MAKERS


class ImportOptionsSerializer(serializers.Serializer):
    name = serializers.CharField(
        max_length=200, help_text="of the dataset; a new one, or one that gets its next version"
    )
    description = serializers.CharField(default="", allow_blank=True)
    licence = serializers.CharField(default="", allow_blank=True, max_length=200)
    group_by = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="the column whose value keeps rows in one split; row: each by itself",
    )
    seed = serializers.IntegerField(
        required=False, min_value=0, help_text="of the split; default: the earlier version's"
    )
    validation = serializers.FloatField(default=0.05, min_value=0, max_value=1)
    test = serializers.FloatField(default=0.05, min_value=0, max_value=1)
    max_tokens = serializers.IntegerField(
        default=0, min_value=0, help_text="longer rows are flagged; 0: none"
    )
    tokenizer = serializers.CharField(
        default="",
        allow_blank=True,
        max_length=200,
        help_text="a language model whose tokenizer counts; empty: an estimate",
    )
    drop_bad_rows = serializers.BooleanField(
        default=False, help_text="do without rows that have errors"
    )


class DatasetUploadSerializer(ImportOptionsSerializer):
    """One of three: a file, one of `/v1/files`, the name of a dataset on a hub."""

    file = serializers.FileField(
        required=False,
        allow_empty_file=True,
        help_text="JSONL, JSON, CSV, TSV, Parquet (.gz, .zst), or a zip of pictures and labels",
    )
    file_id = serializers.CharField(
        default="", allow_blank=True, help_text="a file of /v1/files: file-…"
    )
    hub = serializers.CharField(default="", allow_blank=True, help_text="hub:org/name")
    format = serializers.ChoiceField(
        choices=list(FORMATS), default="", allow_blank=True, help_text="default: by the content"
    )
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(default="", allow_blank=True, max_length=500)


class FromReviewsSerializer(ImportOptionsSerializer):
    make = serializers.ChoiceField(
        choices=list(MAKERS),
        help_text="ocr: pictures of lines and their text; correction: text read and text accepted",
    )
    reviews = serializers.ListField(
        child=serializers.IntegerField(),
        required=False,
        help_text="ids of accepted pages; default: all that you may see",
    )


class FromExtractionsSerializer(ImportOptionsSerializer):
    extractions = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        help_text="ids of accepted extractions; default: all that you may see",
    )


class VersionSummarySerializer(serializers.ModelSerializer):
    url = serializers.SerializerMethodField()

    class Meta:
        model = DatasetVersion
        fields = [
            *("number", "url", "state", "rows", "rows_bad", "tokens", "tokenizer", "format"),
            *("source", "licence", "split_counts", "sha256", "created_at"),
        ]

    def get_url(self, version: DatasetVersion) -> str:
        place = [version.dataset_id, version.number]
        return reverse("datasetversion-detail", args=place, request=self.context["request"])


class VersionSerializer(VersionSummarySerializer):
    """With the report, which says what is wrong and where."""

    dataset = serializers.PrimaryKeyRelatedField(read_only=True)
    parent = serializers.IntegerField(source="parent.number", read_only=True, default=None)

    class Meta(VersionSummarySerializer.Meta):
        fields = [
            *VersionSummarySerializer.Meta.fields,
            *("id", "dataset", "parent", "bytes", "seed", "shares", "bad_rows_dropped", "report"),
        ]


class DatasetSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="dataset-detail")
    versions = serializers.SerializerMethodField(help_text="how many")
    latest = serializers.SerializerMethodField()

    class Meta:
        model = Dataset
        fields = [
            *("id", "url", "name", "kind", "description", "versions", "latest", "created_at"),
        ]

    def get_versions(self, dataset: Dataset) -> int:
        return len(dataset.versions.all())

    def get_latest(self, dataset: Dataset) -> dict[str, Any] | None:
        versions = dataset.versions.all()
        if not versions:
            return None
        latest = max(versions, key=lambda version: version.number)
        return dict(VersionSummarySerializer(latest, context=self.context).data)


class DatasetImportSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="datasetimport-detail")
    dataset_name = serializers.CharField(source="dataset.name", read_only=True)
    version = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField(help_text="percent")
    error = serializers.SerializerMethodField()

    class Meta:
        model = DatasetImport
        fields = [
            *("id", "url", "status", "dataset", "dataset_name", "version", "origin", "source"),
            *("progress", "attempts", "cancel_requested", "error"),
            *("created_at", "started_at", "finished_at"),
        ]

    def get_version(self, job: DatasetImport) -> str | None:
        if job.version is None:
            return None
        place = [job.version.dataset_id, job.version.number]
        return reverse("datasetversion-detail", args=place, request=self.context["request"])

    def get_progress(self, job: DatasetImport) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: DatasetImport) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None
