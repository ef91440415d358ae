"""Writes of the OCR app: documents and the jobs that read them."""

from ocr.services.documents import document_create, document_delete, document_reuse_or_create
from ocr.services.jobs import (
    ocr_job_create,
    ocr_job_resume,
    ocr_job_retry,
    ocr_job_submit,
    upload_and_submit,
)

__all__ = [
    "document_create",
    "document_delete",
    "document_reuse_or_create",
    "ocr_job_create",
    "ocr_job_resume",
    "ocr_job_retry",
    "ocr_job_submit",
    "upload_and_submit",
]
