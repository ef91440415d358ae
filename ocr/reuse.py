"""Pages that were read before in just this way are taken over in place of reading them again."""

from __future__ import annotations

import hashlib
import json

from django.conf import settings

from mlops.engines import EngineCache
from mlops.exceptions import EngineUnavailable
from mlops.models import Job
from ocr.models import Document, OcrJob, PageResult
from ocr.models.options import ReadOptions

# Rows copied at once: a page of a newspaper may hold a megabyte.
AT_ONCE = 50


def reading_key(document: Document, options: ReadOptions) -> str:
    """Digest of all that a page's reading depends on, but for the models' versions.

    Those only a worker knows: `take_over` compares them. The threshold of confidence marks lines
    and changes none; the range of pages chooses among them.
    """
    what = [
        settings.SPECTACULAR_SETTINGS["VERSION"],
        settings.OCR_DEFAULT_ENGINE,
        settings.ENGINES["ocr"],
        document.sha256,
        options.engine,
        options.language,
        options.dpi,
        options.text_layer,
        options.rotate,
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def take_over(job: OcrJob, pages: dict[int, int], engines: EngineCache) -> set[int]:
    """Copies what an earlier job of the same owner read of these pages; returns their numbers.

    `pages`: the rows' keys by number. Nothing is taken if any engine would now read with another
    version of its model.
    """
    if job.force or not job.reading_key or not pages:
        return set()
    earlier = (
        OcrJob.objects.filter(
            reading_key=job.reading_key, owner=job.owner_id, status=Job.Status.SUCCEEDED
        )
        .exclude(pk=job.pk)
        .order_by("-finished_at")
        .first()
    )
    if earlier is None or not _same_models(earlier, engines):
        return set()
    numbers = [
        number
        for number in earlier.results.filter(error="").values_list("page__number", flat=True)
        if number in pages
    ]
    for start in range(0, len(numbers), AT_ONCE):
        _copy(earlier, job, {number: pages[number] for number in numbers[start : start + AT_ONCE]})
    if numbers:
        job.reused_from = earlier
        OcrJob.objects.filter(pk=job.pk).update(reused_from=earlier)
    return set(numbers)


def _same_models(earlier: OcrJob, engines: EngineCache) -> bool:
    read = earlier.results.filter(error="").order_by()
    for engine, version in read.values_list("engine", "model_version").distinct():
        if engine not in engines.specs:
            continue  # the document's own text, which no model has read
        try:
            if engines.get(engine).model_version != version:
                return False
        except EngineUnavailable:
            return False
    return True


def _copy(earlier: OcrJob, job: OcrJob, pages: dict[int, int]) -> None:
    results = earlier.results.filter(page__number__in=pages, error="").select_related("page")
    copies = []
    for result in results:
        number = result.page.number
        result.pk = result._state.db = None
        result._state.adding = True
        # This job spent no time in an engine.
        result.job, result.page_id, result.seconds = job, pages[number], 0
        copies.append(result)
    PageResult.objects.bulk_create(copies, ignore_conflicts=True)
