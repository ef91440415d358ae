"""How an extraction's row comes to be, with the reading of its document where there is none."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from llm.extraction.fields import schema_check
from llm.models import ExtractionJob, ExtractionTemplate
from llm.models.extractions import ExtractionOptions
from llm.selectors import model_resolve
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from mlops.services import job_enqueue
from ocr.job_rows import ocr_job_create, request_id, within
from ocr.models import Document, OcrJob, PageReview

RULES = ExtractionOptions.Engine.RULES
# What children of a batch take over from it.
SHARED = (
    *("template", "schema", "instructions", "examples"),
    *("engine", "model", "model_name", "ocr_engine", "language"),
)


def extraction_options(
    *,
    user: User | None,
    schema: Any = None,
    template: str = "",
    model: str = "",
    instructions: str = "",
    examples: list[dict[str, Any]] | None = None,
    ocr_engine: str = "auto",
    language: str = "auto",
) -> dict[str, Any]:
    """The fields of `ExtractionOptions`, checked. Raises ApplicationError.

    Either a schema or a template's name; what is given beside the template goes before its own.
    `model`: "rules", a language model's name, or "" for LLM_EXTRACTION_MODEL (unset: the rules).
    """
    if bool(template) == (schema is not None):
        raise ApplicationError(
            "Give either 'schema' (a JSON Schema) or 'template' (the name of a saved one).",
            code="schema_or_template",
            param="schema",
        )
    saved = template_named(template, user=user) if template else None
    schema = saved.schema if saved else schema
    schema_check(schema)
    name = model or settings.LLM_EXTRACTION_MODEL or RULES
    row = None if name == RULES else model_resolve(name)
    if row is not None and row.task != row.Task.GENERATE:
        raise ApplicationError(
            f"'{name}' makes embeddings; extraction needs a model that generates text.",
            code="wrong_model",
            param="model",
        )
    return {
        "template": saved,
        "schema": schema,
        "instructions": instructions or (saved.instructions if saved else ""),
        "examples": (saved.examples if saved else []) if examples is None else examples,
        "engine": RULES if row is None else ExtractionOptions.Engine.MODEL,
        "model": row,
        "model_name": "" if row is None else name,
        "ocr_engine": ocr_engine,
        "language": language,
    }


def template_named(name: str, *, user: User | None) -> ExtractionTemplate:
    """The user's own before everybody's. Raises ApplicationError (404)."""
    found = ExtractionTemplate.objects.filter(name=name)
    shared = found.filter(owner=None).first()
    own = found.filter(owner=user).first() if user is not None else None
    if own is None and shared is None:
        raise ApplicationError(
            f"There is no template '{name}', or it isn't yours.",
            code="template_not_found",
            param="template",
            status=404,
        )
    return own or shared


def extraction_create(
    *,
    document: Document,
    owner: User | None,
    options: dict[str, Any],
    ocr_job: OcrJob | None = None,
    priority: int = 3,
    webhook_url: str = "",
    parent: Job | None = None,
) -> ExtractionJob:
    """The row of a job, sent or waiting for its reading. Call within a transaction.

    Raises ApplicationError for a document that can't be read as asked, and NotAllowed for an
    `ocr_job` that failed or was cancelled.
    """
    within(priority, 0, 9, "priority")
    reading = ocr_job or reading_of(document, owner=owner, options=options)
    if reading is None:
        reading = ocr_job_create(
            document=document,
            owner=owner,
            engine=options["ocr_engine"],
            language=options["language"],
            priority=priority,
            sent=True,
        )
        job_enqueue(job=reading)
    elif reading.finished and reading.status != Job.Status.SUCCEEDED:
        raise NotAllowed(
            f"The OCR job {reading.pk} {reading.status}, so there is no text to extract from. "
            "Retry it first, or name the document to read it anew.",
            code="not_read",
        )
    job = ExtractionJob(
        kind=ExtractionJob.KIND,
        queue=queue_of(options),
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        priority=priority,
        owner=owner,
        parent=parent,
        document=document,
        ocr_job=reading,
        after=None if reading.finished else reading,
        sent_at=Now() if reading.finished else None,
        progress_total=1,
        webhook_url=webhook_url,
        request_id=request_id(),
        **options,
    )
    job.save(force_insert=True)
    job_enqueue(job=job)
    return job


def reading_of(document: Document, *, owner: User | None, options: dict[str, Any]) -> OcrJob | None:
    """A reading of the whole document that can be taken over, finished or under way.

    One that people have accepted a page of goes first, then the newest. Of other users' jobs only
    those are taken that the owner may see.
    """
    jobs = OcrJob.objects.filter(document=document, page_range="")
    jobs = jobs.visible_to(owner) if owner is not None else jobs.filter(owner=None)
    for name, field in (("ocr_engine", "engine"), ("language", "language")):
        if options[name] != "auto":
            jobs = jobs.filter(**{field: options[name]})
    accepted = PageReview.objects.accepted().filter(result__job=OuterRef("pk"))
    done = jobs.filter(status=Job.Status.SUCCEEDED).annotate(accepted=Exists(accepted))
    finished = done.order_by("-accepted", "-finished_at").first()
    return finished or jobs.unfinished().order_by("created_at").first()


def queue_of(options: dict[str, Any]) -> str:
    model = options["model"]
    return ExtractionJob.QUEUE if model is None else model.root.queue
