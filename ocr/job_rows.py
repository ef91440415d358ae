"""How a job's row comes to be: its options checked, nothing sent yet."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.db.models.functions import Now

from mlops import engines
from mlops.exceptions import ApplicationError
from mlops.models import Job, User
from mlops.services import webhook_url_check
from ocr import routing
from ocr.languages import UnknownLanguage, parse_languages
from ocr.models import Document, OcrJob
from ocr.page_range import parse_page_range
from ocr.reuse import reading_key


def ocr_job_create(
    *,
    document: Document,
    owner: User | None,
    engine: str = "auto",
    language: str = "auto",
    min_confidence: float | None = None,
    dpi: int | None = None,
    priority: int = 3,
    page_range: str = "",
    text_layer: str = OcrJob.TextLayer.USE,
    rotate: bool = True,
    force: bool = False,
    webhook_url: str = "",
    parent: Job | None = None,
    sent: bool = False,
) -> OcrJob:
    """The row of a job. Raises ApplicationError for what can't be done.

    `sent`: its message will go out at once; without it, it is nobody's yet.
    """
    options = read_options(
        engine=engine,
        language=language,
        min_confidence=min_confidence,
        dpi=dpi,
        page_range=page_range,
        text_layer=text_layer,
        rotate=rotate,
        force=force,
    )
    within(priority, 0, 9, "priority")
    pages = parse_page_range(page_range, document.page_count)
    if webhook_url:
        webhook_url_check(url=webhook_url)
    job = OcrJob(
        kind=OcrJob.KIND,
        queue=OcrJob.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        priority=priority,
        owner=owner,
        parent=parent,
        document=document,
        progress_total=len(pages),
        webhook_url=webhook_url,
        sent_at=Now() if sent else None,
        request_id=request_id(),
        **options,
    )
    job.reading_key = reading_key(document, job)
    job.save(force_insert=True)
    return job


def read_options(
    *,
    engine: str,
    language: str,
    min_confidence: float | None,
    dpi: int | None,
    page_range: str,
    text_layer: str,
    rotate: bool,
    force: bool,
) -> dict[str, Any]:
    """The fields of `ReadOptions`, checked. Raises ApplicationError."""
    languages = languages_of(language)
    routing.choose(
        engines.specs("ocr"),
        engine=engine,
        languages=languages,
        default=settings.OCR_DEFAULT_ENGINE,
    )
    confidence = settings.OCR_MIN_CONFIDENCE if min_confidence is None else min_confidence
    within(confidence, 0, 1, "min_confidence")
    dpi = dpi or settings.OCR_DPI
    within(dpi, 50, 600, "dpi")
    if text_layer not in OcrJob.TextLayer.values:
        raise ApplicationError(
            f"text_layer is '{text_layer}'; choose one of: {', '.join(OcrJob.TextLayer.values)}.",
            code="unknown_choice",
            param="text_layer",
        )
    return {
        "engine": engine,
        "language": "+".join(languages),
        "min_confidence": confidence,
        "dpi": dpi,
        "page_range": page_range,
        "text_layer": text_layer,
        "rotate": rotate,
        "force": force,
    }


def request_id() -> str:
    """Of the request that is being answered, so that the job's log lines name it."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))[:100]


def languages_of(language: str) -> tuple[str, ...]:
    """Raises ApplicationError for a language that is none."""
    try:
        return parse_languages(language)
    except UnknownLanguage as error:
        raise ApplicationError(str(error), code="unknown_language", param="language") from error


def within(value: float, low: float, high: float, param: str) -> None:
    """Raises ApplicationError for a value that is out of range."""
    if not low <= value <= high:
        raise ApplicationError(
            f"{param} is {value}; it must be from {low} to {high}.",
            code="out_of_range",
            param=param,
        )
