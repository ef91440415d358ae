"""Recognisers that training has made, by which requests may have their documents read."""

from __future__ import annotations

from django.db import models


class TrainedEngine(models.Model):
    """One version of a recogniser. Requests name it with what it is to run on before it:

        recogniser:receipts@3   PP-OCR's detector and the recogniser's ONNX file
        easyocr:receipts@3      EasyOCR with the recogniser as its custom network
        recogniser:receipts     the version of that name that is `current`

    Its files never change, so that a job's `engine` says for good what has read its pages.
    """

    name = models.CharField(max_length=200)
    number = models.PositiveIntegerField(help_text="counted from 1")
    current = models.BooleanField(default=False, help_text="what the name without a number means")
    source = models.CharField(max_length=500, help_text="of its files: stored:… or models:/…")
    languages = models.JSONField(default=list, help_text="ISO codes")
    characters = models.TextField(blank=True, help_text="that it tells apart")
    cer = models.FloatField(null=True, blank=True, help_text="on its validation lines, 0 to 1")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["name", "number"], name="trained_engine_once"),
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(current=True),
                name="trained_engine_one_current",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"
