"""What an OCR job does: read each page that has no result yet, and store it before the next."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Avg, Count, Q, Sum

from mlops import engines
from mlops.exceptions import JobFailed
from mlops.jobs import JobContext
from ocr.models import Document, OcrJob, PageResult
from ocr.page_range import parse_page_range
from ocr.pages import Limits, open_pages
from ocr.reader import PageOutcome, ReadRequest, read_page


def run(job: OcrJob, context: JobContext) -> None:
    """Raises JobFailed at the end if any page could not be read; the others are kept."""
    pages = wanted_pages(job)
    done = set(job.results.values_list("page__number", flat=True))
    request = read_request(job)
    cache = engines.cache("ocr")
    context.progress(len(done), len(pages))
    with local_copy(job.document) as path, open_pages(path, dpi=job.dpi, limits=limits()) as source:
        for number in sorted(pages.keys() - done):
            context.check()
            store(job, pages[number], read_page(source, number - 1, request, cache))
            done.add(number)
            context.progress(len(done), len(pages))
    summarise(job)


def wanted_pages(job: OcrJob) -> dict[int, int]:
    """The numbers (from 1) of the pages that the job asks for, each with its row's key."""
    wanted = parse_page_range(job.page_range, job.document.page_count)
    return dict(job.document.pages.filter(number__in=wanted).values_list("number", "pk"))


def read_request(job: OcrJob) -> ReadRequest:
    return ReadRequest(
        engine=job.engine,
        languages=tuple(job.language.split("+")),
        default_engine=settings.OCR_DEFAULT_ENGINE,
        text_layer=job.text_layer,
        rotate=job.rotate,
    )


def limits() -> Limits:
    """What a page may cost to draw; the upload's other limits were checked when it came."""
    return Limits(
        max_bytes=settings.MAX_UPLOAD_BYTES,
        max_pages=settings.OCR_MAX_PAGES,
        max_pixels=settings.OCR_MAX_PIXELS,
    )


@contextmanager
def local_copy(document: Document) -> Iterator[Path]:
    """The document as a file on this machine, whatever storage it is kept in."""
    try:
        path = Path(document.file.path)
    except NotImplementedError:
        path = None
    if path is not None:
        if not path.exists():
            raise JobFailed(
                "The document's file is gone from the storage. Upload it again.",
                code="file_missing",
            )
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=document.extension) as copy:
        with document.file.storage.open(document.file.name) as stored:
            shutil.copyfileobj(stored, copy)
        copy.flush()
        yield Path(copy.name)


def store(job: OcrJob, page_id: int, outcome: PageOutcome) -> None:
    """One page's result; a page that another attempt has stored meanwhile is left as it is."""
    PageResult.objects.bulk_create(
        [
            PageResult(
                job=job,
                page_id=page_id,
                text=outcome.text,
                lines=outcome.lines,
                blocks=outcome.blocks,
                mean_confidence=outcome.mean_confidence,
                width=outcome.width,
                height=outcome.height,
                dpi=outcome.dpi,
                rotation=outcome.rotation,
                skew=outcome.skew,
                engine=outcome.engine,
                language=outcome.language,
                model_version=outcome.model_version,
                device=outcome.device,
                seconds=outcome.seconds,
                note=outcome.note,
                error=outcome.error,
            )
        ],
        ignore_conflicts=True,
    )


def summarise(job: OcrJob) -> None:
    """Writes the job's totals from its pages. Raises JobFailed naming the pages that failed."""
    with transaction.atomic():
        totals = job.results.aggregate(
            mean=Avg("mean_confidence"),
            seconds=Sum("seconds"),
            failed=Count("pk", filter=~Q(error="")),
        )
        OcrJob.objects.filter(pk=job.pk).update(
            mean_confidence=totals["mean"],
            engine_seconds=totals["seconds"] or 0,
            pages_failed=totals["failed"],
            device=", ".join(
                sorted(filter(None, set(job.results.values_list("device", flat=True))))
            )[:500],
        )
    if not totals["failed"]:
        return
    failed = job.results.exclude(error="").order_by("page__number")
    first = failed.first()
    numbers = ", ".join(str(n) for n in failed.values_list("page__number", flat=True)[:20])
    raise JobFailed(
        f"{totals['failed']} of {job.progress_total} pages could not be read ({numbers}): "
        f"{first.error if first else ''} The other pages' results are kept; a retry reads only "
        "the failed ones.",
        code="pages_failed",
    )
