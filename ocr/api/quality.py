"""`GET /api/v1/ocr/quality`: each engine's error rates against corrected pages."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ocr.quality import (
    RULES_TEXT,
    TRUNCATE,
    QualityFilter,
    quality_groups,
    quality_scores,
    quality_series,
)


class QualityQuerySerializer(serializers.Serializer):
    engine = serializers.CharField(default="", allow_blank=True, help_text="that read the page")
    language = serializers.CharField(
        default="", allow_blank=True, help_text="in which it was read, such as ko"
    )
    model_version = serializers.CharField(default="", allow_blank=True)
    since = serializers.DateField(required=False, help_text="first day of reading")
    until = serializers.DateField(required=False, help_text="last day of reading")
    interval = serializers.ChoiceField(
        choices=list(TRUNCATE), required=False, help_text="adds `series`, a row a day and so on"
    )


class QualityRowSerializer(serializers.Serializer):
    """Rates from 0, as (errors / length of the truth); micro by length, macro by page."""

    engine = serializers.CharField()
    language = serializers.CharField()
    model_version = serializers.CharField()
    pages = serializers.IntegerField()
    characters = serializers.IntegerField(help_text="of the truth")
    words = serializers.IntegerField(help_text="of the truth")
    cer_micro = serializers.FloatField()
    cer_macro = serializers.FloatField()
    wer_micro = serializers.FloatField()
    wer_macro = serializers.FloatField()
    word_f1 = serializers.FloatField(help_text="blind to the order of words")
    first = serializers.DateTimeField(help_text="when the first of the pages was read")
    last = serializers.DateTimeField()


class QualityPeriodSerializer(QualityRowSerializer):
    period = serializers.DateField(help_text="the first day of the day, week or month")


class QualitySerializer(serializers.Serializer):
    rules = serializers.CharField(help_text="under which texts are compared")
    groups = QualityRowSerializer(many=True)
    series = QualityPeriodSerializer(many=True, required=False)


class QualityView(APIView):
    """Your documents' pages; annotators and operators see everybody's."""

    @extend_schema(
        operation_id="ocr_quality",
        parameters=[QualityQuerySerializer],
        responses=QualitySerializer,
    )
    def get(self, request: Request) -> Response:
        """What each engine, language and model version read, against the pages people accepted.

        Every job's reading of an accepted page counts, as it was before any correction.
        """
        given = QualityQuerySerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        options = dict(given.validated_data)
        interval = options.pop("interval", None)
        scores = quality_scores(request.user, QualityFilter(**options))
        body = {"rules": RULES_TEXT, "groups": quality_groups(scores)}
        if interval:
            body["series"] = quality_series(scores, interval)
        return Response(QualitySerializer(body).data)
