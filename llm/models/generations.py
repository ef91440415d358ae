"""Requests to language models, and what they used."""

from __future__ import annotations

import json

from django.conf import settings
from django.db import models
from django.urls import reverse

from llm.models.language_models import LanguageModel
from llm.models.ordered_json import OrderedJSONField
from mlops.models import ApiKey, Job, JobQuerySet
from mlops.tracking import RunRecord


class GenerationJob(Job):
    """One call of a language model: chat, completion or embeddings. Transitions are Job's.

    The request's body is kept until the end, and afterwards only if the model stores texts. One
    that has begun to stream is never begun anew: it has one attempt.
    """

    class Endpoint(models.TextChoices):
        CHAT = "chat"
        COMPLETION = "completion"
        EMBEDDING = "embedding"

    KIND = "llm.generate"
    QUEUE = "llm"
    # A run a request would be the tracker's whole work: models have `trace` for it.
    TRACKED = False

    endpoint = models.CharField(max_length=20, choices=Endpoint)
    model = models.ForeignKey(
        LanguageModel, null=True, on_delete=models.SET_NULL, related_name="requests"
    )
    asked_model = models.CharField(max_length=200, help_text="the name in the request")
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    body = OrderedJSONField(null=True, blank=True, help_text="the request")
    answer = OrderedJSONField(null=True, blank=True)
    streamed = models.BooleanField(default=False)
    # Where the answer goes: the reply stream of the web process that waits for it.
    reply_to = models.CharField(max_length=100, blank=True, editable=False)

    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=20, blank=True)
    first_token_ms = models.FloatField(null=True, blank=True, help_text="from the worker's start")

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "model request"

    def __str__(self) -> str:
        return f"{self.endpoint} with {self.asked_model}"

    def get_absolute_url(self) -> str:
        return reverse("generationjob-detail", args=[self.pk])

    def run_record(self) -> RunRecord:
        """Texts are logged only where the model's setting keeps them."""
        metrics = {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "first_token_ms": self.first_token_ms,
            "seconds": self.seconds,
        }
        texts = {"request.json": self.body, "answer.json": self.answer}
        return RunRecord(
            name=str(self),
            experiment="llm",
            succeeded=self.status == self.Status.SUCCEEDED,
            started=self.started_at and self.started_at.timestamp(),
            finished=self.finished_at and self.finished_at.timestamp(),
            params={
                "model": self.model.name if self.model else "",
                "asked_model": self.asked_model,
                "endpoint": self.endpoint,
                "streamed": self.streamed,
            },
            metrics={name: value for name, value in metrics.items() if value is not None},
            tags={"job": str(self.pk), "status": self.status, "finish_reason": self.finish_reason},
            artifacts={
                name: json.dumps(text, ensure_ascii=False, indent=1)
                for name, text in texts.items()
                if text is not None
            },
        )


class Usage(models.Model):
    """Tokens and requests of one user, key and model on one day (UTC)."""

    day = models.DateField()
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+"
    )
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.SET_NULL, related_name="+")
    model = models.ForeignKey(LanguageModel, null=True, on_delete=models.SET_NULL, related_name="+")
    requests = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "usage"
        constraints = [
            models.UniqueConstraint(
                fields=["day", "owner", "api_key", "model"],
                name="usage_once",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(fields=["api_key", "day"], name="usage_key"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.owner} {self.model}: {self.requests}"
