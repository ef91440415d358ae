"""Datasets and their versions: what models are trained on."""

from __future__ import annotations

import uuid
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from mlops.models import User


class DatasetQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        """All of them to people of the console, who work on them together; else one's own."""
        return self if datasets_all(user) else self.filter(owner=user)


class Dataset(models.Model):
    """A name under which versions of the same data follow each other. All are of one kind."""

    class Kind(models.TextChoices):
        CHAT = "chat", "conversations"
        COMPLETION = "completion", "prompts and completions"
        TEXT = "text", "plain text"
        PREFERENCE = "preference", "preference pairs"
        OCR = "ocr", "OCR lines"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="datasets",
    )
    name = models.CharField(max_length=200)
    kind = models.CharField(
        max_length=20, choices=Kind, blank=True, help_text="known from its first version on"
    )
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], name="dataset_once_an_owner_and_name"
            ),
            models.UniqueConstraint(
                fields=["name"], condition=Q(owner=None), name="dataset_once_a_name_without_owner"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("dataset-detail", args=[self.pk])


class DatasetVersionQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if datasets_all(user) else self.filter(dataset__owner=user)

    def trainable(self) -> Self:
        return self.filter(state=DatasetVersion.State.READY)


class DatasetVersion(models.Model):
    """Rows as they were imported at one time, with their split; nothing of it ever changes.

    invalid -> ready (the rows with errors are left out by somebody's choice)

    The rows lie in the storage under their `sha256`, once for all versions that hold just these;
    which of them are for what, and hashes to compare versions by, lie under the version's own id.
    `report` is `finetune.report`'s. Rows with errors are in the report, never among the rows.
    """

    class State(models.TextChoices):
        READY = "ready"
        INVALID = "invalid", "Has errors"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(help_text="counted from 1")
    parent = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="children",
        help_text="the version before it, whose test split it keeps to",
    )
    state = models.CharField(max_length=10, choices=State)
    sha256 = models.CharField(max_length=64, db_index=True, help_text="of the rows")
    bytes = models.PositiveBigIntegerField(help_text="of the rows, packed")
    stored_rows = models.PositiveIntegerField(help_text="rows kept, those left out included")
    rows = models.PositiveIntegerField(help_text="rows to train and test on")
    tokens = models.PositiveBigIntegerField()
    tokenizer = models.CharField(
        max_length=500, blank=True, help_text="what counted the tokens; empty: an estimate"
    )
    format = models.CharField(max_length=50)
    source = models.CharField(max_length=500, help_text="file, hub name, or what it was made from")
    licence = models.CharField(max_length=200, blank=True)
    seed = models.PositiveBigIntegerField(default=0)
    shares = models.JSONField(default=dict, help_text="of the groups: {validation, test}")
    pins = models.JSONField(default=dict, help_text="groups put into a split: {hash: split}")
    split_counts = models.JSONField(default=dict, help_text="rows by split")
    rows_bad = models.PositiveIntegerField(default=0)
    bad_rows_dropped = models.BooleanField(
        default=False, help_text="somebody chose to do without the rows that have errors"
    )
    dropped_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    report = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DatasetVersionQuerySet.as_manager()

    class Meta:
        ordering = ["dataset", "-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "number"], name="version_once_a_dataset_and_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"

    def get_absolute_url(self) -> str:
        return reverse("datasetversion-detail", args=[self.dataset_id, self.number])

    @property
    def folder(self) -> str:
        """Where the version's own files lie in the storage."""
        return f"datasets/versions/{self.pk.hex[:2]}/{self.pk}"

    @property
    def ready(self) -> bool:
        return self.state == self.State.READY

    def lines_left_out(self) -> list[Any]:
        """Numbers of the first lines with errors; the file of problems has all."""
        return self.report.get("bad_lines", [])


def datasets_all(user: User) -> bool:
    """Whether the user sees everybody's datasets."""
    return user.sees_all or user.has_perm("finetune.view_dataset")
