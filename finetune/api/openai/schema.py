"""OpenAI's objects of fine-tuning, for the API's documentation."""

from __future__ import annotations

from rest_framework import serializers

STATUSES = ["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class FineTuningJobCreateSerializer(serializers.Serializer):
    model = serializers.CharField(help_text="the model to begin with, by its name")
    training_file = serializers.CharField(help_text="of /v1/files, with the purpose fine-tune")
    validation_file = serializers.CharField(required=False, allow_null=True)
    method = serializers.DictField(
        required=False,
        help_text="{type: supervised | dpo, supervised | dpo: {hyperparameters: {n_epochs, "
        'batch_size, learning_rate_multiplier, beta}}}; each a number or "auto"',
    )
    hyperparameters = serializers.DictField(required=False, help_text="the older form of `method`")
    suffix = serializers.CharField(
        required=False, allow_null=True, max_length=64, help_text="becomes part of the name"
    )
    seed = serializers.IntegerField(required=False, allow_null=True)
    metadata = serializers.DictField(
        child=serializers.CharField(), required=False, allow_null=True, help_text="up to 16 pairs"
    )
    integrations = serializers.ListField(
        required=False, allow_null=True, max_length=0, help_text="none are offered"
    )


class FineTuningErrorSerializer(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class FineTuningJobSerializer(serializers.Serializer):
    id = serializers.CharField(help_text="ftjob-…")
    object = serializers.CharField(help_text="fine_tuning.job")
    model = serializers.CharField()
    status = serializers.ChoiceField(STATUSES)
    fine_tuned_model = serializers.CharField(allow_null=True, help_text="to be called by")
    training_file = serializers.CharField()
    validation_file = serializers.CharField(allow_null=True)
    result_files = serializers.ListField(child=serializers.CharField())
    hyperparameters = serializers.DictField()
    method = serializers.DictField()
    seed = serializers.IntegerField()
    trained_tokens = serializers.IntegerField(allow_null=True)
    error = FineTuningErrorSerializer(allow_null=True)
    organization_id = serializers.CharField()
    integrations = serializers.ListField()
    metadata = serializers.DictField(allow_null=True)
    created_at = serializers.IntegerField(help_text="unix seconds")
    finished_at = serializers.IntegerField(allow_null=True)
    estimated_finish = serializers.IntegerField(allow_null=True)


class FineTuningEventSerializer(serializers.Serializer):
    id = serializers.CharField()
    object = serializers.CharField(help_text="fine_tuning.job.event")
    created_at = serializers.IntegerField()
    level = serializers.ChoiceField(["info", "warn", "error"])
    type = serializers.ChoiceField(["message", "metrics"])
    message = serializers.CharField()
    data = serializers.DictField()


class FineTuningCheckpointSerializer(serializers.Serializer):
    id = serializers.CharField()
    object = serializers.CharField(help_text="fine_tuning.job.checkpoint")
    created_at = serializers.IntegerField()
    fine_tuning_job_id = serializers.CharField()
    fine_tuned_model_checkpoint = serializers.CharField(
        help_text="to be called by, once the job has succeeded and if it is among those kept"
    )
    step_number = serializers.IntegerField()
    metrics = serializers.DictField(child=serializers.FloatField(allow_null=True))


class _ListSerializer(serializers.Serializer):
    object = serializers.CharField(help_text="list")
    first_id = serializers.CharField(allow_null=True)
    last_id = serializers.CharField(allow_null=True)
    has_more = serializers.BooleanField()


class FineTuningJobListSerializer(_ListSerializer):
    data = FineTuningJobSerializer(many=True)


class EventListSerializer(_ListSerializer):
    data = FineTuningEventSerializer(many=True)


class CheckpointListSerializer(_ListSerializer):
    data = FineTuningCheckpointSerializer(many=True)
