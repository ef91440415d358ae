"""What the OCR API takes and gives."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework import serializers

from ocr import selectors
from ocr.formats import ACCEPTED
from ocr.models import Document, OcrBatch, OcrJob


class DocumentSerializer(serializers.ModelSerializer):
    pages = serializers.IntegerField(source="page_count", read_only=True)
    url = serializers.HyperlinkedIdentityField(view_name="document-detail")

    class Meta:
        model = Document
        fields = ["id", "url", "name", "size", "sha256", "media_type", "pages", "created_at"]


class UploadSerializer(serializers.Serializer):
    file = serializers.FileField(allow_empty_file=True, help_text=ACCEPTED)


class OcrOptionsSerializer(serializers.Serializer):
    engine = serializers.CharField(default="auto", help_text="auto, or an engine's alias")
    language = serializers.CharField(
        default="auto", help_text="auto, an ISO code (ko, en), or several joined by +"
    )
    min_confidence = serializers.FloatField(
        required=False, min_value=0, max_value=1, help_text="lines below it are flagged"
    )
    dpi = serializers.IntegerField(
        required=False, min_value=50, max_value=600, help_text="at which PDF pages are drawn"
    )
    page_range = serializers.CharField(
        default="", allow_blank=True, max_length=200, help_text="such as 1-3,7; empty for all"
    )
    text_layer = serializers.ChoiceField(
        choices=OcrJob.TextLayer.choices,
        default=OcrJob.TextLayer.USE,
        help_text="use: a PDF's own text where it is good; ignore: read every page as an image",
    )
    rotate = serializers.BooleanField(default=True, help_text="put turned pages upright")
    force = serializers.BooleanField(
        default=False, help_text="read again what has been read in just this way before"
    )
    priority = serializers.IntegerField(default=3, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(
        default="", allow_blank=True, max_length=500, help_text="told of the end, beside webhooks"
    )


class OcrJobCreateSerializer(OcrOptionsSerializer):
    """Either the id of a document or a file."""

    document = serializers.UUIDField(required=False)
    file = serializers.FileField(required=False, allow_empty_file=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("document" in attrs) == ("file" in attrs):
            raise serializers.ValidationError(
                "Give either 'document' (the id of an uploaded one) or 'file' (an upload).",
                code="document_or_file",
            )
        return attrs


class OcrJobSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="ocrjob-detail")
    document = serializers.PrimaryKeyRelatedField(read_only=True)
    batch = serializers.PrimaryKeyRelatedField(source="parent", read_only=True)
    reused_from = serializers.PrimaryKeyRelatedField(read_only=True)
    document_name = serializers.CharField(source="document.name", read_only=True)
    progress = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)
    result = serializers.SerializerMethodField()

    class Meta:
        model = OcrJob
        fields = [
            "id",
            "url",
            "status",
            "document",
            "document_name",
            "engine",
            "language",
            "min_confidence",
            "dpi",
            "page_range",
            "text_layer",
            "rotate",
            "force",
            "reused_from",
            "batch",
            "device",
            "priority",
            "progress",
            "attempts",
            "cancel_requested",
            "error",
            "mean_confidence",
            "engine_seconds",
            "pages_failed",
            "created_at",
            "started_at",
            "finished_at",
            "mlflow_run",
            "result",
        ]

    def get_progress(self, job: OcrJob) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: OcrJob) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None

    def get_result(self, job: OcrJob) -> str | None:
        if not job.finished:
            return None
        return self.context["request"].build_absolute_uri(f"{job.get_absolute_url()}/result")


class OcrBatchCreateSerializer(OcrOptionsSerializer):
    """Documents that are here, uploads, what lies below a prefix: at least one of the three."""

    name = serializers.CharField(default="", allow_blank=True, max_length=200)
    documents = serializers.ListField(child=serializers.UUIDField(), required=False)
    files = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True), required=False
    )
    prefix = serializers.CharField(
        default="", allow_blank=True, max_length=500, help_text="of the storage: inbox/2026/"
    )
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")


class OcrBatchSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="ocrbatch-detail")
    progress = serializers.SerializerMethodField(help_text="pages")
    documents = serializers.SerializerMethodField(help_text="by what became of them")
    error = serializers.SerializerMethodField()
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)

    class Meta:
        model = OcrBatch
        fields = [
            *("id", "url", "name", "status", "prefix", "progress", "documents"),
            *("engine", "language", "min_confidence", "dpi", "page_range", "text_layer", "rotate"),
            *("force", "priority", "cancel_requested", "error"),
            *("created_at", "started_at", "finished_at", "mlflow_run"),
        ]

    def get_progress(self, batch: OcrBatch) -> dict[str, int]:
        return {"done": batch.progress_done, "total": batch.progress_total}

    def get_documents(self, batch: OcrBatch) -> dict[str, int]:
        return selectors.batch_counts(batch)

    def get_error(self, batch: OcrBatch) -> dict[str, str] | None:
        return {"code": batch.error_code, "message": batch.error} if batch.error else None


class ExtractSerializer(serializers.Serializer):
    """The fields of `POST /api/ocr/extract/sync`."""

    image_file = serializers.FileField(allow_empty_file=True)
    language = serializers.CharField(default="korean")
    confidence_threshold = serializers.FloatField(default=0.5, min_value=0, max_value=1)
    use_angle_cls = serializers.BooleanField(default=True, help_text="put turned pages upright")
    engine = serializers.CharField(default="auto")
    force = serializers.BooleanField(
        default=False, help_text="read again what has been read in just this way before"
    )
    wait = serializers.FloatField(
        default=settings.OCR_SYNC_WAIT_SECONDS,
        min_value=0,
        max_value=settings.OCR_SYNC_WAIT_SECONDS,
        help_text="seconds to wait for the result before 202 is answered",
    )
