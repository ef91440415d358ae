"""Datasets, the training of models on them, what comes of it, and how good that is."""

from finetune.models.datasets import Dataset, DatasetQuerySet, DatasetVersion
from finetune.models.evaluations import Evaluation, EvaluationRow, EvaluationSide
from finetune.models.imports import DatasetImport
from finetune.models.joins import TrainingJoin
from finetune.models.merges import VersionMerge
from finetune.models.sweeps import Sweep
from finetune.models.training import Checkpoint, TrainingEvent, TrainingJob, TrainingMetric
from finetune.models.versions import ModelVersion

__all__ = [
    "Checkpoint",
    "Dataset",
    "DatasetImport",
    "DatasetQuerySet",
    "DatasetVersion",
    "Evaluation",
    "EvaluationRow",
    "EvaluationSide",
    "ModelVersion",
    "Sweep",
    "TrainingEvent",
    "TrainingJob",
    "TrainingJoin",
    "TrainingMetric",
    "VersionMerge",
]
