"""Who else is told when the text of a document has changed: settings.OCR_TEXT_LISTENERS."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.utils.module_loading import import_string


def text_changed(document_id: uuid.UUID) -> None:
    """Called after a reading, and after each correction or decision of a review."""
    for path in settings.OCR_TEXT_LISTENERS:
        import_string(path)(document_id=document_id)
