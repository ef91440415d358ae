"""A search by meaning: the query's vector, and the nearest passages'. For workers."""

from __future__ import annotations

from django.conf import settings

from llm import held
from llm.models import SearchJob
from llm.retrieval.embedding import collection_name, embedded
from llm.retrieval.stores import store
from mlops.jobs import JobContext


def run(job: SearchJob, _context: JobContext) -> None:
    """Writes what was found into the row. Raises EngineUnavailable without model or store."""
    loaded = held.get(job.model)
    [vector] = embedded(loaded, [settings.LLM_QUERY_PREFIX + job.query])
    assert job.owner is not None
    found = store().search(
        collection_name(job.model, len(vector)),
        vector,
        owner=None if job.owner.sees_all else job.owner.pk,
        documents=job.documents,
        limit=job.limit,
    )
    SearchJob.objects.filter(pk=job.pk).update(found=found)
