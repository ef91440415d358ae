"""The console's pages of OCR: documents, jobs and what they read. Split by noun."""

from ocr.admin import documents, jobs

__all__ = ["documents", "jobs"]
