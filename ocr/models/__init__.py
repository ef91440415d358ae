"""Documents, the jobs that read them, and what was read."""

from ocr.models.batches import BatchItem, OcrBatch
from ocr.models.claims import PageClaim
from ocr.models.documents import Document, DocumentQuerySet, Page, document_path
from ocr.models.jobs import OcrJob
from ocr.models.options import ReadOptions
from ocr.models.quality import PageScore
from ocr.models.results import PageResult
from ocr.models.review import Correction, PageReview
from ocr.models.trained import TrainedEngine
from ocr.models.watch import WatchedFile

__all__ = [
    "BatchItem",
    "Correction",
    "Document",
    "DocumentQuerySet",
    "OcrBatch",
    "OcrJob",
    "Page",
    "PageClaim",
    "PageResult",
    "PageReview",
    "PageScore",
    "ReadOptions",
    "TrainedEngine",
    "WatchedFile",
    "document_path",
]
