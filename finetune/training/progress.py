"""What a trainer tells, written down: the job's row, points of curves, events, checkpoints."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from finetune.engines.base import (
    Event,
    Failed,
    Finished,
    Looked,
    Metrics,
    Notice,
    Phase,
    Saved,
    Started,
    Stopped,
)
from finetune.models import TrainingEvent, TrainingJob, TrainingMetric
from finetune.training import checkpoints
from mlops.jobs import JobContext

INFO, WARN, ERROR = TrainingEvent.Level.INFO, TrainingEvent.Level.WARN, TrainingEvent.Level.ERROR


class Recorder:
    """Writes one attempt's events into rows. `last` is the event that ended it, if one has come."""

    def __init__(self, job: TrainingJob, context: JobContext, folder: Path) -> None:
        self.job, self._context, self._folder = job, context, folder
        self.last: Finished | Looked | Stopped | Failed | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Phase():
                self.phase(event.name)
            case Started():
                self._started(event)
            case Metrics():
                self._point(event)
            case Saved():
                self._saved(event)
            case Notice():
                self.tell(event.level, event.message)
            case Failed() if isinstance(self.last, Failed):
                # Of several processes the first to fail has the reason; others follow from it.
                pass
            case Finished() | Looked() | Stopped() | Failed():
                self.last = event

    def phase(self, name: str) -> None:
        self._write(phase=name)

    def tell(self, level: str, message: str, **data: object) -> None:
        TrainingEvent.objects.create(job=self.job, level=level, message=message, data=data)

    def warn(self, message: str) -> None:
        self.tell(WARN, message)

    def _started(self, event: Started) -> None:
        with transaction.atomic():
            # What came after the checkpoint comes again.
            self.job.metrics.filter(step__gt=event.start_step).delete()
            self._write(
                phase=TrainingJob.Phase.TRAINING,
                settings_found=event.settings,
                device=str(event.settings.get("device", self.job.device)),
                steps_from=event.start_step,
                steps_since=timezone.now(),
            )
        self._context.write_progress(event.start_step, event.total_steps)
        if event.start_step:
            self.tell(INFO, f"Going on from step {event.start_step} of {event.total_steps}.")
        else:
            self.tell(INFO, f"Training has begun: {event.total_steps} steps.", **event.settings)

    def _point(self, event: Metrics) -> None:
        values = {name: value for name, value in event.values.items() if math.isfinite(value)}
        at = datetime.fromtimestamp(event.at, UTC)
        with transaction.atomic():
            # A new row, also where a try of the validation rows follows at the same step: whoever
            # reads on from the last row it has seen misses nothing.
            before = self.job.metrics.filter(step=event.step).first()
            if before is not None:
                values = before.values | values
                before.delete()
            TrainingMetric.objects.create(
                job=self.job, step=event.step, epoch=event.epoch, values=values, at=at
            )
        told = {
            name: values[name]
            for name in ("loss", "eval_loss", "tokens_per_second", "trained_tokens", "memory_bytes")
            if name in values
        }
        for whole in ("trained_tokens", "memory_bytes"):
            if whole in told:
                told[whole] = int(told[whole])
        self._write(epoch=event.epoch, **told)
        self._context.progress(event.step, self.job.progress_total)

    def _saved(self, event: Saved) -> None:
        checkpoints.keep(self.job, self._folder, event)
        self.tell(INFO, f"Checkpoint at step {event.step}.", step=event.step, **event.metrics)

    def _write(self, **values: object) -> None:
        """Fields of the job's own table; the shared one is written under the lease."""
        for name, value in values.items():
            setattr(self.job, name, value)
        TrainingJob.objects.filter(pk=self.job.pk, attempts=self.job.attempts).update(**values)
