"""How documents are to be read: what a job and a batch of jobs share."""

from __future__ import annotations

from django.db import models


class ReadOptions(models.Model):
    """`engine` and `language` are what was asked for ("auto" leaves the choice to each page)."""

    class TextLayer(models.TextChoices):
        """What becomes of the text that a PDF itself holds."""

        USE = "use", "use where it is good"
        IGNORE = "ignore", "read every page as an image"

    engine = models.CharField(max_length=250, default="auto")
    language = models.CharField(max_length=100, default="auto")
    min_confidence = models.FloatField(help_text="lines below it are flagged, never dropped")
    dpi = models.PositiveIntegerField(help_text="at which PDF pages are drawn")
    page_range = models.CharField(max_length=200, blank=True, help_text="1-3,7; empty for all")
    text_layer = models.CharField(max_length=10, choices=TextLayer, default=TextLayer.USE)
    rotate = models.BooleanField(default=True, help_text="put turned pages upright")
    force = models.BooleanField(
        default=False, help_text="read again what has been read in just this way before"
    )

    class Meta:
        abstract = True
