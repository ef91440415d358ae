"""What the search API takes."""

from __future__ import annotations

from rest_framework import serializers

MOST_HITS = 100
LONGEST = 2000
MODES = ("auto", "lexical", "vector", "hybrid")


class AboutDocumentsSerializer(serializers.Serializer):
    documents = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        allow_empty=False,
        max_length=1000,
        help_text="ids; all of yours by default",
    )


class SearchSerializer(AboutDocumentsSerializer):
    query = serializers.CharField(max_length=LONGEST)
    mode = serializers.ChoiceField(
        choices=MODES,
        default="auto",
        help_text="lexical: by words; vector: by meaning; hybrid: both; auto: the best there is",
    )
    limit = serializers.IntegerField(default=10, min_value=1, max_value=MOST_HITS)


class IndexSerializer(AboutDocumentsSerializer):
    """Nothing given: all of your documents that were read."""


class AnswerSerializer(AboutDocumentsSerializer):
    question = serializers.CharField(max_length=LONGEST)
    model = serializers.CharField(max_length=200, help_text="as GET /v1/models lists them")
    mode = serializers.ChoiceField(choices=MODES, default="auto", help_text="of the search")
    passages = serializers.IntegerField(
        default=6, min_value=1, max_value=20, help_text="at most so many are given to the model"
    )
    max_tokens = serializers.IntegerField(
        default=512, min_value=1, max_value=8192, help_text="of the answer"
    )
    stream = serializers.BooleanField(default=False)
