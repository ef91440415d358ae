"""What the review API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ocr.models import Correction, PageResult, PageReview
from ocr.review_queue import QueueFilter

MOST_SKIPPED = 500


class QueueFilterSerializer(serializers.Serializer):
    order = serializers.ChoiceField(
        choices=["confidence", "random", "disagreement"],
        default="confidence",
        help_text="least certain first, a sample, or where two engines differ most",
    )
    seed = serializers.CharField(
        default="", allow_blank=True, max_length=100, help_text="names the sample of order=random"
    )
    status = serializers.ChoiceField(
        choices=PageReview.Status.choices, default=PageReview.Status.OPEN
    )
    document = serializers.UUIDField(default=None, allow_null=True)
    job = serializers.UUIDField(default=None, allow_null=True)
    batch = serializers.UUIDField(default=None, allow_null=True)
    engine = serializers.CharField(default="", allow_blank=True)
    language = serializers.CharField(default="", allow_blank=True)

    def queue_filter(self) -> QueueFilter:
        given = self.validated_data
        return QueueFilter(**{name: given[name] for name in QueueFilter.__slots__})


class NextSerializer(QueueFilterSerializer):
    status = None
    skip = serializers.ListField(
        child=serializers.IntegerField(),
        default=list,
        max_length=MOST_SKIPPED,
        help_text="ids of pages that you passed over",
    )

    def queue_filter(self) -> QueueFilter:
        given = self.validated_data
        return QueueFilter(**{name: given[name] for name in QueueFilter.__slots__ if name in given})


class QueueRowSerializer(serializers.ModelSerializer):
    document = serializers.UUIDField(source="job.document_id", read_only=True)
    document_name = serializers.CharField(source="job.document.name", read_only=True)
    page = serializers.IntegerField(source="page.number", read_only=True)
    url = serializers.HyperlinkedIdentityField(view_name="review-detail")
    status = serializers.CharField(source="review_status", read_only=True)
    disagreement = serializers.FloatField(
        read_only=True,
        allow_null=True,
        help_text="how far two engines' readings are apart, 0 to 1; only in that order",
    )

    class Meta:
        model = PageResult
        fields = [
            *("id", "url", "document", "document_name", "page", "job", "engine", "language"),
            *("model_version", "mean_confidence", "status", "disagreement"),
        ]


class CorrectionSerializer(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username", default=None, read_only=True)

    class Meta:
        model = Correction
        fields = [
            *("id", "action", "line_id", "position", "user", "version", "created_at"),
            *("before", "after", "before_box", "box", "lines_before", "lines_after", "undoes"),
        ]


class SinceSerializer(serializers.Serializer):
    since = serializers.IntegerField(
        required=False, min_value=0, help_text="the version you have: later changes are answered"
    )


class VersionSerializer(SinceSerializer):
    version = serializers.IntegerField(min_value=0, help_text="in which you saw the line")


class AcceptSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=0, help_text="in which you saw the page")


class FlagSerializer(serializers.Serializer):
    note = serializers.CharField(default="", allow_blank=True, max_length=2000)


class PolygonField(serializers.ListField):
    """[[x, y], …] in pixels of the page, clockwise from the text's top left."""

    child = serializers.ListField(child=serializers.FloatField(), min_length=2, max_length=2)


class LineAddSerializer(SinceSerializer):
    text = serializers.CharField(trim_whitespace=False)
    polygon = PolygonField()
    after = serializers.CharField(
        default=None, allow_null=True, help_text="id of the line before it; null puts it first"
    )


class LineChangeSerializer(VersionSerializer):
    """Either `text` or `polygon`."""

    text = serializers.CharField(required=False, allow_blank=True, trim_whitespace=False)
    polygon = PolygonField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("text" in attrs) == ("polygon" in attrs):
            raise serializers.ValidationError(
                "Give either 'text' or 'polygon'.", code="text_or_polygon"
            )
        return attrs


class LinesMergeSerializer(VersionSerializer):
    lines = serializers.ListField(
        child=serializers.CharField(),
        source="line_ids",
        min_length=2,
        help_text="ids in reading order",
    )


class LineSplitSerializer(VersionSerializer):
    line = serializers.CharField(source="line_id")
    at = serializers.IntegerField(min_value=0)


class OrderSerializer(VersionSerializer):
    order = serializers.ListField(child=serializers.CharField(), max_length=10_000)
