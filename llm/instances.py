"""What the console knows of models in memory: one row a model and worker, told by the worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from llm.models import LanguageModel, ModelInstance
from mlops.jobs import worker_name


def instance_tell(
    model: LanguageModel, state: str, *, device: str = "", memory_bytes: int = 0, error: str = ""
) -> None:
    """Writes what this worker makes of the model, at each change of state."""
    ModelInstance.objects.update_or_create(
        model=model,
        worker=worker_name(),
        defaults={
            "state": state,
            "device": device[:200],
            "memory_bytes": memory_bytes,
            "error": error,
            "active_requests": 0,
            "loaded_at": Now() if state == ModelInstance.State.READY else None,
            "seen_at": Now(),
        },
    )


def instance_forget(pk: int) -> None:
    """This worker no longer holds the model."""
    ModelInstance.objects.filter(model=pk, worker=worker_name()).delete()


def instances_refresh(active: Mapping[int, int]) -> None:
    """This worker's sign of life: open requests by the key of the model."""
    mine = ModelInstance.objects.filter(worker=worker_name())
    mine.update(seen_at=Now())
    for pk, count in active.items():
        mine.filter(model=pk).exclude(active_requests=count).update(active_requests=count)


def instances_expire() -> int:
    """Forgets what workers held that give no sign any more; returns how many rows."""
    silent = Now() - timedelta(seconds=max(30.0, 6 * settings.MAINTENANCE_SECONDS))
    return ModelInstance.objects.filter(seen_at__lt=silent).delete()[0]
