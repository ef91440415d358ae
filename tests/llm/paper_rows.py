"""Papers whose text is known, as rows: documents that were read."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.models import Job, User
from ocr.models import OcrJob
from tests.factories import DocumentFactory, OcrJobFactory, PageResultFactory
from tests.llm.papers import RECEIPT, lines_of


def read_paper(
    texts: Sequence[str | tuple[str, ...]] = RECEIPT, *, owner: User, name: str = "receipt.png"
) -> OcrJob:
    """A document of the owner that was read; the job says what it holds."""
    document = DocumentFactory(owner=owner, name=name)
    job = OcrJobFactory(document=document, status=Job.Status.SUCCEEDED)
    PageResultFactory(job=job, lines=lines_of(texts), width=900, height=1200)
    return job
