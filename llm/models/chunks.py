"""What is searched: passages of documents, and how far each document is indexed."""

from __future__ import annotations

import uuid
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse

from llm.models.language_models import LanguageModel
from mlops.models import Job, JobQuerySet
from ocr.models import Document, Page, PageResult


class DocumentIndexQuerySet(models.QuerySet):
    def due(self) -> Self:
        """Wanted and not held by anybody, or held by somebody who has not been heard of since."""
        free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
        wanted = Q(wanted_at__lte=Now()) | Q(claimed_until__lt=Now()) | Q(document=None)
        return self.filter(free & wanted)


class DocumentIndex(models.Model):
    """How far one document is indexed; it outlives the document until its vectors are gone too.

    `wanted_at` says from when on the document is to be indexed (again). Whoever does it takes the
    wish off and holds the row until `claimed_until`: what is wished for meanwhile stays.
    """

    key = models.UUIDField(primary_key=True, editable=False, help_text="the document's id")
    document = models.OneToOneField(
        Document, null=True, on_delete=models.SET_NULL, related_name="search_index"
    )
    wanted_at = models.DateTimeField(null=True, blank=True, db_index=True)
    claimed_until = models.DateTimeField(null=True, blank=True, db_index=True)
    digest = models.CharField(max_length=64, blank=True, help_text="of the readings indexed")
    chunks = models.PositiveIntegerField(default=0)
    collection = models.CharField(max_length=200, blank=True, help_text="where the vectors are")
    note = models.TextField(blank=True, help_text="why the vectors are missing or old")
    indexed_at = models.DateTimeField(null=True, blank=True)

    objects = DocumentIndexQuerySet.as_manager()

    class Meta:
        verbose_name = "indexed document"
        indexes = [
            models.Index(
                fields=["key"], condition=Q(document__isnull=True), name="index_of_nothing"
            ),
        ]

    def __str__(self) -> str:
        return f"Index of {self.document or self.key}"


class Search(DocumentIndex):
    """The console's page of search: who may view this may use it, for what they see anyway."""

    class Meta:
        proxy = True
        verbose_name_plural = "search"


class Chunk(models.Model):
    """A passage of one page: lines that follow one another in the reading order.

    `lines`: [{"line" (its number on the page, from 0), "start" (where it begins in `text`, in code
    points), "box" ([left, top, right, bottom])}, …]. `box` is around all of them. Geometry is
    that of `result`. `terms` are what lexical search looks for (`llm.retrieval.terms`), joined by
    spaces; `point` is the vector's id.

    In the database stands an index on `terms` beside the table, made in the migration: on
    PostgreSQL a tsvector, on SQLite an FTS5 table kept by triggers, which are lost where the table
    is made anew.
    """

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chunks")
    page = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="+")
    result = models.ForeignKey(PageResult, on_delete=models.CASCADE, related_name="+")
    position = models.PositiveIntegerField(help_text="on the page, from 0")
    point = models.UUIDField(unique=True, editable=False)
    heading = models.TextField(blank=True, help_text="the headings that it stands under")
    text = models.TextField()
    first_line = models.PositiveIntegerField()
    last_line = models.PositiveIntegerField()
    lines = models.JSONField(default=list)
    box = models.JSONField(default=list)
    terms = models.TextField()
    term_count = models.PositiveIntegerField()

    class Meta:
        ordering = ["page", "position"]
        constraints = [
            models.UniqueConstraint(fields=["page", "position"], name="chunk_once_a_place")
        ]

    def __str__(self) -> str:
        return f"{self.page}, lines {self.first_line + 1} to {self.last_line + 1}"

    @staticmethod
    def point_of(document: uuid.UUID, page: int, position: int) -> uuid.UUID:
        """The same place has the same id each time: a vector written again takes its own place."""
        return uuid.uuid5(document, f"{page}:{position}")


class IndexJob(Job):
    """Indexes what is due, one document after the other, until nothing is. Transitions are Job's.

    Idempotent: what is due stands in the documents' own rows.
    """

    KIND = "llm.index"
    QUEUE = "llm"
    TRACKED = False

    embedded = models.PositiveIntegerField(default=0, help_text="passages given vectors")
    note = models.TextField(blank=True, help_text="why there are no vectors")

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "index job"

    def __str__(self) -> str:
        return "Indexing of documents"

    def get_absolute_url(self) -> str:
        return reverse("llm-index")


class SearchJob(Job):
    """One search by meaning, which takes a worker: it holds the embedding model and the vectors.

    `found`: [[point, score], …], best first. The row goes with the answer to who asked.
    """

    KIND = "llm.search"
    QUEUE = "llm"
    TRACKED = False

    query = models.TextField()
    documents = models.JSONField(null=True, blank=True, help_text="ids; empty for all")
    limit = models.PositiveIntegerField()
    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="+")
    found = models.JSONField(default=list)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = "search"
        verbose_name_plural = "searches"

    def __str__(self) -> str:
        return "Search by meaning"

    def get_absolute_url(self) -> str:
        return reverse("llm-search")
