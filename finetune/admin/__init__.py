"""The console's pages of fine-tuning: datasets, trainings, and what comes of them."""

from finetune.admin import (
    datasets,
    evaluations,
    from_reviews,
    imports,
    merges,
    model_versions,
    sweeps,
    training,
    versions,
)

__all__ = [
    "datasets",
    "evaluations",
    "from_reviews",
    "imports",
    "merges",
    "model_versions",
    "sweeps",
    "training",
    "versions",
]
