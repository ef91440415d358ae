"""Writes of the OCR app: documents and the jobs that read them."""

from ocr.services.batches import ocr_batch_retry, ocr_batch_submit, ocr_options_check
from ocr.services.corrections import (
    box_change,
    correction_undo,
    line_add,
    line_edit,
    line_merge,
    line_remove,
    line_split,
    lines_reorder,
)
from ocr.services.documents import document_create, document_delete, document_reuse_or_create
from ocr.services.jobs import (
    ocr_job_create,
    ocr_job_resume,
    ocr_job_retry,
    ocr_job_submit,
    upload_and_submit,
)
from ocr.services.review import (
    ReviewConflict,
    review_accept,
    review_begin,
    review_flag,
    review_next,
    review_open,
    review_release,
    review_reopen,
)
from ocr.services.trained import (
    trained_engine_choose,
    trained_engine_delete,
    trained_engine_save,
)

__all__ = [
    "ReviewConflict",
    "box_change",
    "correction_undo",
    "document_create",
    "document_delete",
    "document_reuse_or_create",
    "line_add",
    "line_edit",
    "line_merge",
    "line_remove",
    "line_split",
    "lines_reorder",
    "ocr_batch_retry",
    "ocr_batch_submit",
    "ocr_job_create",
    "ocr_job_resume",
    "ocr_job_retry",
    "ocr_job_submit",
    "ocr_options_check",
    "review_accept",
    "review_begin",
    "review_flag",
    "review_next",
    "review_open",
    "review_release",
    "review_reopen",
    "trained_engine_choose",
    "trained_engine_delete",
    "trained_engine_save",
    "upload_and_submit",
]
