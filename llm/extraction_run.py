"""What an extraction job does: the text in, values and where they stand out."""

from __future__ import annotations

import time

import structlog
from django.db import transaction

from llm import held
from llm.ask import adapter_of, ask
from llm.extraction.base import ExtractionEngine, Task
from llm.extraction.evidence import locate
from llm.extraction.model import ModelEngine
from llm.extraction.rules import RulesEngine
from llm.extraction_pages import pages_of
from llm.extraction_rows import SHARED, extraction_create
from llm.models import ExtractionBatch, ExtractionJob, LanguageModel
from llm.usage import usage_add
from mlops.exceptions import ApplicationError, JobFailed, JobWaits
from mlops.jobs import JobContext
from ocr.models import Document

log = structlog.get_logger(__name__)


def run(job: ExtractionJob, context: JobContext) -> None:
    """Raises JobFailed where there is no text, or where the model gives no usable answer."""
    if job.ocr_job_id is None:
        raise JobFailed(
            "The reading of the document was deleted. Retry to read it anew.", code="not_read"
        )
    pages = pages_of(job)
    if not any(page.lines for page in pages):
        raise JobFailed("No text was found in the document.", code="no_text")
    started = time.perf_counter()
    task = Task(job.schema, job.instructions, job.examples)
    found = _engine(job, context).extract(pages, task)
    seconds = time.perf_counter() - started
    context.check()
    ExtractionJob.objects.filter(pk=job.pk).update(
        values=found.values,
        problems=list(found.problems),
        evidence=locate(pages, found.values, found.sources),
        seconds_engine=seconds,
        tries=found.tries,
        windows=found.windows,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        corrected=None,
    )
    if found.prompt_tokens:
        usage_add(
            owner=job.owner_id,
            api_key=None,
            model=job.model_id,
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            requests=found.tries,
        )
    context.progress(1, 1)


def _engine(job: ExtractionJob, context: JobContext) -> ExtractionEngine:
    if job.engine == ExtractionJob.Engine.RULES:
        return RulesEngine()
    if job.model is None:
        raise JobFailed(
            f"The model '{job.model_name}' was deleted meanwhile.", code="model_not_found"
        )
    return model_engine(job.model, context)


def model_engine(model: LanguageModel, context: JobContext | None = None) -> ModelEngine:
    """The engine on a model of this worker; loads it if it isn't held. Raises EngineUnavailable."""
    loaded = held.get(model)
    return ModelEngine(
        model.name,
        loaded,
        lambda request: ask(loaded, request, context=context),
        adapter_of(model),
    )


def run_batch(batch: ExtractionBatch, context: JobContext) -> None:
    """Makes the jobs that are not there yet. Raises JobWaits: the batch ends with the last."""
    made = ExtractionJob.objects.filter(parent=batch.pk).values_list("document", flat=True)
    done = {str(pk) for pk in made} | {one["document"] for one in batch.failures}
    options = {name: getattr(batch, name) for name in SHARED}
    for number, key in enumerate(key for key in batch.documents if key not in done):
        if number % 20 == 0:
            context.check()
        try:
            _take_up(batch, key, options)
        except ApplicationError as error:
            batch.failures.append({"document": key, "code": error.code, "message": error.message})
            ExtractionBatch.objects.filter(pk=batch.pk).update(failures=batch.failures)
            log.info("extraction_refused", document=key, error=error.message)
    raise JobWaits


def _take_up(batch: ExtractionBatch, key: str, options: dict[str, object]) -> None:
    document = Document.objects.filter(pk=key).first()
    if document is None:
        raise ApplicationError("The document has been deleted.", code="document_deleted")
    with transaction.atomic():
        extraction_create(
            document=document,
            owner=batch.owner,
            options=options,
            priority=batch.priority,
            parent=batch,
        )
