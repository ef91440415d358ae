"""Writes: datasets come in and go."""

from finetune.services.datasets import (
    bad_rows_drop,
    dataset_delete,
    dataset_from_extractions,
    dataset_from_reviews,
    dataset_import,
    import_retry,
    version_delete,
)

__all__ = [
    "bad_rows_drop",
    "dataset_delete",
    "dataset_from_extractions",
    "dataset_from_reviews",
    "dataset_import",
    "import_retry",
    "version_delete",
]
