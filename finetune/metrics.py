"""What trainings under way tell Prometheus; whole curves are MLflow's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from finetune.models import TrainingJob
from mlops.metrics.sources import Source

LABELS = ["job", "name"]
# Gauge, the field behind it, what it is.
GAUGES = (
    ("mlops_training_steps", "progress_done", "Steps that are done."),
    ("mlops_training_steps_planned", "progress_total", "Steps there are to do in all."),
    ("mlops_training_loss", "loss", "Of the last step that was logged."),
    ("mlops_training_eval_loss", "eval_loss", "Of the last evaluation."),
    ("mlops_training_tokens", "trained_tokens", "Tokens trained on."),
    ("mlops_training_tokens_per_second", "tokens_per_second", "The present speed."),
    ("mlops_training_memory_bytes", "memory_bytes", "The most that the trainer has had."),
)


def rows() -> Iterator[Metric]:
    """One series a running training; what is not known yet is left out."""
    running = TrainingJob.objects.filter(status=TrainingJob.Status.RUNNING, dry_run=False)
    found = list(
        running.order_by().values("pk", "name", *(field for _name, field, _text in GAUGES))
    )
    for name, field, text in GAUGES:
        gauge = GaugeMetricFamily(name, f"Of a running training: {text}", labels=LABELS)
        for row in found:
            if row[field] is not None:
                gauge.add_metric([str(row["pk"]), row["name"]], row[field])
        yield gauge


SOURCE = Source(counted=(), rows=rows)
