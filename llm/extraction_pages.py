"""The text that an extraction works on: its reading, as people have corrected it since."""

from __future__ import annotations

from llm.extraction.base import PageText, page_of
from llm.models import ExtractionJob
from ocr.models import PageResult
from ocr.results import content


def pages_of(job: ExtractionJob) -> list[PageText]:
    """The pages that were read, in order."""
    results = PageResult.objects.filter(job=job.ocr_job_id, error="")
    return [
        page_of(
            result.page.number,
            content(result, corrected=True).lines,
            size=(result.width, result.height),
        )
        for result in results.select_related("page", "review").order_by("page__number")
    ]
