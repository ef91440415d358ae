"""Datasets, their versions, and the jobs that bring them in."""

from finetune.models.datasets import Dataset, DatasetQuerySet, DatasetVersion
from finetune.models.imports import DatasetImport

__all__ = ["Dataset", "DatasetImport", "DatasetQuerySet", "DatasetVersion"]
