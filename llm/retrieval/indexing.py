"""Indexing one document: its passages as rows, their vectors in the store. For workers."""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from llm import held
from llm.models import Chunk, DocumentIndex, IndexJob
from llm.retrieval.chunking import Passage, passages
from llm.retrieval.embedding import (
    BATCH,
    collection_name,
    collection_version,
    embedded,
    embedding_model,
    why_no_model,
)
from llm.retrieval.readings import Reading, reading_digest, readings
from llm.retrieval.stores import Point, store
from llm.retrieval.terms import terms
from mlops.exceptions import ApplicationError, EngineUnavailable, JobCancelled, LeaseLost
from mlops.jobs import JobContext, WorkerStopping
from ocr.models import Document

log = structlog.get_logger(__name__)

# One whose worker died is taken up again after this.
CLAIM = timedelta(minutes=10)
UNDER_WAY = "The vectors are being made."


def run(job: IndexJob, context: JobContext) -> None:
    """Indexes documents until none is due; vectors that can't be made are noted, not fatal."""
    vectors = _Vectors(context)
    done = 0
    while index := _claim():
        try:
            _index(index, vectors)
        except (WorkerStopping, JobCancelled, LeaseLost):
            # Due again at once, for whoever comes next.
            _held(index).update(claimed_until=Now())
            raise
        done += 1
        context.progress(done, done + DocumentIndex.objects.due().count())
        context.check()
    context.progress(done, done)
    IndexJob.objects.filter(pk=job.pk).update(embedded=vectors.made, note=vectors.problem)


class _Vectors:
    """The embedding model of one run; `problem` says why there are no vectors."""

    def __init__(self, context: JobContext) -> None:
        self.context = context
        self.model = embedding_model()
        self.problem = "" if self.model else why_no_model()
        self.made = 0

    def has(self, index: DocumentIndex) -> bool:
        """Whether the document's vectors are as good as they can be made now."""
        if self.model is None or self.problem:
            return True
        made = index.collection.startswith(collection_version(self.model)) or not index.chunks
        return made and not index.note

    def write(self, index: DocumentIndex, document: Document, chunks: list[Chunk]) -> None:
        """Embeds the passages and puts them in the place of what the document had."""
        assert self.model is not None
        loaded = held.get(self.model)
        before = index.collection
        for start in range(0, len(chunks), BATCH):
            part = chunks[start : start + BATCH]
            vectors = embedded(loaded, [_embedding_text(chunk) for chunk in part])
            index.collection = collection_name(self.model, len(vectors[0]))
            points = [
                Point(chunk.point, vector, document.owner_id, document.pk)
                for chunk, vector in zip(part, vectors, strict=True)
            ]
            store().put(index.collection, points)
            self.made += len(points)
            self.context.check()
            _held(index).update(collection=index.collection, claimed_until=Now() + CLAIM)
        if index.collection:
            store().keep(index.collection, document.pk, [chunk.point for chunk in chunks])
        if before not in ("", index.collection):
            store().keep(before, document.pk, [])


def _embedding_text(chunk: Chunk) -> str:
    text = f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text
    return settings.LLM_PASSAGE_PREFIX + text


def _held(index: DocumentIndex) -> QuerySet[DocumentIndex]:
    return DocumentIndex.objects.filter(key=index.key)


def _claim() -> DocumentIndex | None:
    """A document that is due, for this worker alone; its wish is taken off."""
    for key in DocumentIndex.objects.due().order_by("wanted_at").values_list("key", flat=True)[:20]:
        taken = DocumentIndex.objects.due().filter(key=key)
        if taken.update(wanted_at=None, claimed_until=Now() + CLAIM):
            return DocumentIndex.objects.select_related("document").get(key=key)
    return None


def _index(index: DocumentIndex, vectors: _Vectors) -> None:
    document = index.document
    if document is None:
        _forget(index)
        return
    digest = reading_digest(document.pk)
    if digest != index.digest or not vectors.has(index):
        chunks = _chunks_write(index, document, digest)
        index.note = vectors.problem
        if not vectors.problem:
            try:
                vectors.write(index, document, chunks)
            except (EngineUnavailable, ApplicationError) as error:
                # Words are found all the same. Each document would fail alike, after the same wait.
                index.note = vectors.problem = error.message
                log.warning("vectors_unavailable", document=str(document.pk), error=error.message)
    _held(index).update(
        note=index.note, collection=index.collection, claimed_until=None, indexed_at=Now()
    )


def _forget(index: DocumentIndex) -> None:
    """The document is gone: now its vectors go too, and then what said where they were."""
    try:
        if index.collection:
            store().keep(index.collection, index.key, [])
    except EngineUnavailable as error:
        # Stays claimed, and is due again when the claim has run out.
        log.warning("vectors_left", document=str(index.key), error=error.message)
        return
    index.delete()


def _chunks_write(index: DocumentIndex, document: Document, digest: str) -> list[Chunk]:
    """The document's passages in place of those it had, in one transaction."""
    chunks = [
        _chunk(document, reading, position, passage)
        for reading in readings(document.pk)
        for position, passage in enumerate(passages(reading.content.lines, reading.content.blocks))
    ]
    with transaction.atomic():
        # Two that index one document at once write one after the other.
        DocumentIndex.objects.select_for_update().get(key=index.key)
        Chunk.objects.filter(document=document).delete()
        Chunk.objects.bulk_create(chunks, batch_size=200)
        index.digest, index.chunks = digest, len(chunks)
        # Until they are made anew, the vectors are those of another text.
        _held(index).update(digest=digest, chunks=len(chunks), note=UNDER_WAY)
    return chunks


def _chunk(document: Document, reading: Reading, position: int, passage: Passage) -> Chunk:
    page = reading.result.page
    found = terms(f"{passage.heading}\n{passage.text}")
    return Chunk(
        document=document,
        page=page,
        result=reading.result,
        position=position,
        point=Chunk.point_of(document.pk, page.number, position),
        heading=passage.heading,
        text=passage.text,
        first_line=passage.first,
        last_line=passage.last,
        lines=passage.lines,
        box=passage.box,
        terms=" ".join(found),
        term_count=len(found),
    )
