"""The console's pages of OCR: documents, jobs and what they read. Split by noun."""

from ocr.admin import batches, documents, jobs, quality, review

__all__ = ["batches", "documents", "jobs", "quality", "review"]
