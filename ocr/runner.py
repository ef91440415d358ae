"""What an OCR job does: read each page that has no result yet, and store it before the next."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef

from mlops import engines
from mlops.engines import EngineCache
from mlops.exceptions import JobCancelled, JobFailed, LeaseLost
from mlops.jobs import JobContext, WorkerStopping
from mlops.models import Job
from ocr import listeners, reuse
from ocr.metrics import page_counted
from ocr.models import Document, OcrJob, PageResult
from ocr.page_range import parse_page_range
from ocr.pages import BadDocument, Limits, PageSource, open_pages
from ocr.quality_rows import document_scores_update
from ocr.reader import PageOutcome, ReadRequest, read_page
from ocr.spread import SharedPages, others_wait

log = structlog.get_logger(__name__)

# Between two looks at pages that other workers are reading.
WAIT_SECONDS = 0.1


def run(job: OcrJob, context: JobContext) -> None:
    """Raises JobFailed at the end if any page could not be read; the others are kept."""
    pages, left = _pages(job)
    cache = engines.cache("ocr")
    context.progress(len(pages) - len(left), len(pages))
    for number in reuse.take_over(job, left, cache):
        del left[number]
    if left:
        request = read_request(job)
        with (
            local_copy(job.document) as path,
            open_pages(path, dpi=job.dpi, limits=limits()) as source,
        ):
            if len(left) > settings.OCR_SPREAD_PAGES:
                _read_together(job, context, source, request, cache, total=len(pages))
            else:
                _read_alone(job, context, source, request, cache, left=left, total=len(pages))
    context.progress(len(pages), len(pages))
    summarise(job)


def _read_alone(
    job: OcrJob,
    context: JobContext,
    source: PageSource,
    request: ReadRequest,
    cache: EngineCache,
    *,
    left: dict[int, int],
    total: int,
) -> None:
    done = total - len(left)
    for number, page_id in left.items():
        # Nobody can have stopped or taken what was leased a moment ago.
        if done:
            context.check()
        store(job, page_id, read_page(source, number - 1, request, cache))
        done += 1
        context.progress(done, total)


def _read_together(
    job: OcrJob,
    context: JobContext,
    source: PageSource,
    request: ReadRequest,
    cache: EngineCache,
    *,
    total: int,
) -> None:
    """Reads with whoever helps until every page has a result."""
    shared = SharedPages(job)
    while unread := shared.unread().count():
        # First, so that a job that is cancelled says how far it came.
        context.progress(total - unread, total)
        context.check()
        shared.call_helpers(unread)
        with shared.claimed() as page:
            if page is None:
                # The last ones are under way elsewhere; a claim that runs out becomes free.
                time.sleep(WAIT_SECONDS)
                continue
            number, page_id = page
            store(job, page_id, read_page(source, number - 1, request, cache))
    job.claims.all().delete()


def help_pages(pk: str) -> int:
    """Reads pages of a job that another worker holds; returns how many.

    Ends when no page is free, or some other job needs a worker more.
    """
    job = OcrJob.objects.select_related("document").filter(pk=pk, status=Job.Status.RUNNING).first()
    if job is None:
        return 0
    read, context, shared = 0, JobContext(job), SharedPages(job)
    if not shared.unread().exists():
        return 0
    cache = engines.cache("ocr")
    try:
        with (
            local_copy(job.document) as path,
            open_pages(path, dpi=job.dpi, limits=limits()) as source,
        ):
            while not others_wait(job):
                context.check()
                with shared.claimed() as page:
                    if page is None:
                        break
                    number, page_id = page
                    outcome = read_page(source, number - 1, read_request(job), cache)
                    store(job, page_id, outcome)
                    read += 1
    except (WorkerStopping, LeaseLost, JobCancelled):
        # The job is its holder's affair; what was read here is stored.
        pass
    except (JobFailed, BadDocument) as error:
        log.warning("help_refused", job_id=pk, error=str(error))
    log.info("pages_helped", job_id=pk, pages=read)
    return read


def _pages(job: OcrJob) -> tuple[dict[int, int], dict[int, int]]:
    """All pages that the job asks for, and those of them without a result: keys by number."""
    pages = job.document.pages.order_by("number")
    if job.page_range:
        numbers = parse_page_range(job.page_range, job.document.page_count)
        pages = pages.filter(number__in=numbers)
    read = PageResult.objects.filter(job=job.pk, page=OuterRef("pk"))
    rows = list(pages.annotate(read=Exists(read)).values_list("number", "pk", "read"))
    wanted = {number: pk for number, pk, _read in rows}
    return wanted, {number: pk for number, pk, read in rows if not read}


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
    page_counted(engine=outcome.engine, seconds=outcome.seconds, failed=bool(outcome.error))


def summarise(job: OcrJob) -> None:
    """Writes the job's totals from its pages. Raises JobFailed naming the pages that failed."""
    pages = job.results.order_by("page__number").values_list(
        "page__number", "mean_confidence", "seconds", "device", "error"
    )
    means, seconds, devices, failed = [], 0.0, set(), []
    for number, mean, spent, device, error in pages:
        if mean is not None:
            means.append(mean)
        seconds += spent
        devices.add(device)
        if error:
            failed.append((number, error))
    OcrJob.objects.filter(pk=job.pk).update(
        mean_confidence=sum(means) / len(means) if means else None,
        engine_seconds=seconds,
        pages_failed=len(failed),
        device=", ".join(sorted(filter(None, devices)))[:500],
    )
    # People may have accepted a text for some of these pages already.
    document_scores_update(document_id=job.document_id)
    listeners.text_changed(job.document_id)
    if failed:
        numbers = ", ".join(str(number) for number, _error in failed[:20])
        raise JobFailed(
            f"{len(failed)} of {job.progress_total} pages could not be read ({numbers}): "
            f"{failed[0][1]} The other pages' results are kept; a retry reads only the failed "
            "ones.",
            code="pages_failed",
        )
