"""Documents, the jobs that read them, and what was read."""

from ocr.models.documents import Document, DocumentQuerySet, Page, document_path
from ocr.models.jobs import OcrJob
from ocr.models.results import PageResult

__all__ = ["Document", "DocumentQuerySet", "OcrJob", "Page", "PageResult", "document_path"]
