"""What the extraction API takes and gives."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

from llm.models import ExtractionBatch, ExtractionJob, ExtractionTemplate
from ocr.formats import ACCEPTED


class JsonField(serializers.JSONField):
    """JSON, or, in a form with a file, the text of it."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except ValueError as error:
                raise serializers.ValidationError(
                    f"This is not JSON: {error}.", code="invalid_json"
                ) from error
        return super().to_internal_value(data)


class ExtractionOptionsSerializer(serializers.Serializer):
    schema = JsonField(required=False, help_text="JSON Schema of an object")
    template = serializers.CharField(
        required=False, default="", allow_blank=True, help_text="a saved one's name, for a schema"
    )
    model = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        help_text="'rules', or a language model's name; empty for the installation's default",
    )
    instructions = serializers.CharField(
        required=False, default="", allow_blank=True, help_text="told to the model"
    )
    examples = JsonField(required=False, help_text='[{"text": "…", "values": {…}}, …]')
    ocr_engine = serializers.CharField(
        default="auto", help_text="reads the document, if it has not been read"
    )
    language = serializers.CharField(default="auto", help_text="for that reading")
    priority = serializers.IntegerField(default=3, min_value=0, max_value=9, help_text="0 first")
    webhook_url = serializers.URLField(
        default="", allow_blank=True, max_length=500, help_text="told of the end, beside webhooks"
    )


class ExtractionCreateSerializer(ExtractionOptionsSerializer):
    """One of `document`, `file` and `ocr_job`; and `schema` or `template`."""

    document = serializers.UUIDField(required=False)
    file = serializers.FileField(required=False, allow_empty_file=True, help_text=ACCEPTED)
    ocr_job = serializers.UUIDField(required=False, help_text="takes the text that it read")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if sum(name in attrs for name in ("document", "file", "ocr_job")) != 1:
            raise serializers.ValidationError(
                "Give one of 'document' (an id), 'file' (an upload) and 'ocr_job' (an id).",
                code="document_file_or_ocr_job",
            )
        return attrs


class ExtractionSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="extraction-detail")
    document = serializers.PrimaryKeyRelatedField(read_only=True)
    document_name = serializers.CharField(source="document.name", read_only=True)
    ocr_job = serializers.PrimaryKeyRelatedField(read_only=True)
    batch = serializers.PrimaryKeyRelatedField(source="parent", read_only=True)
    template = serializers.SlugRelatedField(slug_field="name", read_only=True)
    model = serializers.CharField(source="engine_name", read_only=True)
    progress = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    values = serializers.JSONField(
        source="final", read_only=True, help_text="with people's corrections"
    )
    extracted = serializers.JSONField(
        source="values", read_only=True, help_text="as the engine gave them"
    )
    usage = serializers.SerializerMethodField()
    reviewer = serializers.SlugRelatedField(slug_field="username", read_only=True)
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)

    class Meta:
        model = ExtractionJob
        fields = [
            *("id", "url", "status", "document", "document_name", "ocr_job", "batch"),
            *("template", "schema", "model", "priority", "progress", "cancel_requested", "error"),
            *("values", "extracted", "evidence", "problems", "usage", "seconds_engine"),
            *("version", "reviewer", "accepted_at"),
            *("created_at", "started_at", "finished_at", "mlflow_run"),
        ]

    def get_progress(self, job: ExtractionJob) -> dict[str, int]:
        return {"done": job.progress_done, "total": job.progress_total}

    def get_error(self, job: ExtractionJob) -> dict[str, str] | None:
        return {"code": job.error_code, "message": job.error} if job.error else None

    def get_usage(self, job: ExtractionJob) -> dict[str, int]:
        return {
            "tries": job.tries,
            "windows": job.windows,
            "prompt_tokens": job.prompt_tokens,
            "completion_tokens": job.completion_tokens,
        }


class VersionSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=0, help_text="of the values that you saw")


class ValueSerializer(VersionSerializer):
    path = serializers.CharField(help_text="JSON pointer: /total, /items/0/name")
    value = serializers.JSONField(allow_null=True)


class ExtractionBatchCreateSerializer(ExtractionOptionsSerializer):
    """Documents that are here, uploads, an OCR batch: at least one of the three."""

    name = serializers.CharField(default="", allow_blank=True, max_length=200)
    documents = serializers.ListField(child=serializers.UUIDField(), required=False)
    files = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True), required=False
    )
    ocr_batch = serializers.UUIDField(required=False, help_text="all documents of it")
    priority = serializers.IntegerField(default=5, min_value=0, max_value=9, help_text="0 first")


class ExtractionBatchSerializer(serializers.ModelSerializer):
    url = serializers.HyperlinkedIdentityField(view_name="extractionbatch-detail")
    template = serializers.SlugRelatedField(slug_field="name", read_only=True)
    model = serializers.CharField(source="engine_name", read_only=True)
    documents = serializers.SerializerMethodField(help_text="how many")
    progress = serializers.SerializerMethodField(help_text="documents")
    error = serializers.SerializerMethodField()
    mlflow_run = serializers.URLField(source="mlflow_run_url", read_only=True)

    class Meta:
        model = ExtractionBatch
        fields = [
            *("id", "url", "name", "status", "template", "schema", "model", "documents"),
            *("failures", "priority", "progress", "cancel_requested", "error"),
            *("created_at", "started_at", "finished_at", "mlflow_run"),
        ]

    def get_documents(self, batch: ExtractionBatch) -> int:
        return len(batch.documents)

    def get_progress(self, batch: ExtractionBatch) -> dict[str, int]:
        return {"done": batch.progress_done, "total": batch.progress_total}

    def get_error(self, batch: ExtractionBatch) -> dict[str, str] | None:
        return {"code": batch.error_code, "message": batch.error} if batch.error else None


class TemplateSerializer(serializers.ModelSerializer):
    owner = serializers.SlugRelatedField(slug_field="username", read_only=True)
    schema = JsonField()
    examples = JsonField(required=False)

    class Meta:
        model = ExtractionTemplate
        fields = [
            *("name", "title", "owner", "schema", "instructions", "examples", "built_in"),
            *("created_at", "changed_at"),
        ]
        read_only_fields = ["built_in"]
