"""Writes of sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from finetune.engines.base import METRICS
from finetune.engines.configs import config_of
from finetune.models import DatasetVersion, Sweep
from finetune.services.training import base_check, name_check, version_check
from finetune.sweeps.space import MOST_TRIALS, combinations, finite_count, space_read
from llm.models import LanguageModel
from mlops.exceptions import ApplicationError
from mlops.models import User
from mlops.services import job_enqueue, webhook_url_check
from ocr.job_rows import request_id, within

log = structlog.get_logger(__name__)

# Of these figures more is better.
MORE = frozenset({"accuracy", "eval_accuracy", "margin", "eval_margin"})


def sweep_submit(
    *,
    owner: User | None,
    name: str,
    method: str,
    dataset_version: DatasetVersion,
    space: Mapping[str, Any],
    base: LanguageModel | None = None,
    options: Mapping[str, Any] | None = None,
    search: str = Sweep.Search.GRID,
    trials: int = 10,
    parallel: int = 1,
    metric: str = "eval_loss",
    prune: bool = True,
    priority: int = 5,
    webhook_url: str = "",
) -> Sweep:
    """A job that trains once for each choice of options; `name` is that of what comes of it.

    `trials`: at most, for Optuna; a grid has as many as combinations. Raises ApplicationError.
    """
    if search not in Sweep.Search.values:
        raise ApplicationError(
            f"search: one of {', '.join(Sweep.Search.values)}.",
            code="unknown_choice",
            param="search",
        )
    name_check(name)
    base_check(method, base)
    version_check(method, dataset_version, "dataset")
    _metric_check(metric, dataset_version)
    read = space_read(method, options or {}, space)
    within(trials, 1, MOST_TRIALS, "trials")
    within(parallel, 1, 32, "parallel")
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    if search == Sweep.Search.GRID:
        trials = len(combinations(read))
    sweep = Sweep(
        kind=Sweep.KIND,
        queue=Sweep.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        owner=owner,
        name=name,
        method=method,
        base=base,
        dataset_version=dataset_version,
        dataset_label=str(dataset_version),
        options=config_of(method, options or {}).as_options(),
        space=read,
        search=search,
        trials=min(trials, finite_count(read) or trials),
        parallel=parallel,
        metric=metric,
        minimize=metric not in MORE,
        prune=prune,
        priority=priority,
        webhook_url=webhook_url,
        sent_at=Now(),
        request_id=request_id(),
    )
    with transaction.atomic():
        sweep.save(force_insert=True)
        job_enqueue(job=sweep)
    log.info("sweep_submitted", job_id=str(sweep.pk), search=search, trials=sweep.trials)
    return sweep


def _metric_check(metric: str, version: DatasetVersion) -> None:
    if metric not in METRICS:
        raise ApplicationError(
            f"metric: one of {', '.join(METRICS)}.", code="unknown_metric", param="metric"
        )
    if metric.startswith("eval_") and not version.split_counts.get("validation"):
        raise ApplicationError(
            f"{version} has no validation rows, by which {metric} would be measured. Import it "
            "with a share for validation.",
            code="no_rows",
            param="metric",
        )
