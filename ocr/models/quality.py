"""How far what was read is from what people have made of it."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q

from mlops.models import User
from ocr.models.results import PageResult
from ocr.models.review import PageReview, reviews_all


class PageScoreQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        if user.sees_all or reviews_all(user):
            return self
        return self.filter(Q(result__job__owner=user) | Q(result__job__document__owner=user))


class PageScore(models.Model):
    """One page result against the accepted text of its page, under `ocr.quality.RULES`.

    Counts as in `ocr.scoring.Counts`. What read the page, and when, stands here again: a result's
    row holds all of its lines, too much to go through for a sum over 100,000 pages.
    """

    result = models.OneToOneField(PageResult, on_delete=models.CASCADE, related_name="score")
    review = models.ForeignKey(PageReview, on_delete=models.CASCADE, related_name="scores")
    engine = models.CharField(max_length=250)
    language = models.CharField(max_length=100)
    model_version = models.CharField(max_length=200, blank=True)
    read_at = models.DateTimeField(db_index=True, help_text="when the engine read the page")
    errors = models.PositiveIntegerField()
    characters = models.PositiveIntegerField()
    word_errors = models.PositiveIntegerField()
    words = models.PositiveIntegerField()
    words_read = models.PositiveIntegerField()
    words_matched = models.PositiveIntegerField()
    scored_at = models.DateTimeField(auto_now=True)

    objects = PageScoreQuerySet.as_manager()

    class Meta:
        ordering = ["-read_at"]
        verbose_name_plural = "quality"

    def __str__(self) -> str:
        return f"{self.engine}: {self.errors} errors in {self.characters} characters"
