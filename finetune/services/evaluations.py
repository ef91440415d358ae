"""Writes of evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from finetune.content.facts import SPLITS
from finetune.evaluation.metrics import metrics_check
from finetune.evaluation.results import SAMPLES, verdict
from finetune.evaluation.sides import reads_pictures, side_named
from finetune.models import DatasetVersion, Evaluation, EvaluationSide
from finetune.services.versions import version_promote
from llm.models import LanguageModel, ModelAlias
from mlops.exceptions import ApplicationError, NotAllowed
from mlops.models import Job, User
from mlops.services import job_enqueue, webhook_url_check
from ocr.job_rows import request_id, within

log = structlog.get_logger(__name__)

MOST_SIDES = 8
MOST_ROWS = 200_000


def evaluation_submit(
    *,
    owner: User | None,
    dataset_version: DatasetVersion,
    models: Sequence[str],
    name: str = "",
    split: str = "test",
    metrics: Sequence[str] = (),
    rows: int = 1000,
    max_tokens: int = 256,
    seed: int = 0,
    samples: int = SAMPLES,
    device: str = "auto",
    priority: int = 5,
    webhook_url: str = "",
    enqueue: bool = True,
) -> Evaluation:
    """A job that scores each of `models` (see `side_named`) on rows of the split.

    `metrics`: empty for all that rows of the kind have. `rows`: at most so many, chosen by `seed`;
    0 for all. `max_tokens`: of an answer. `samples`: of the bootstrap. Raises ApplicationError.
    """
    if split not in SPLITS:
        raise ApplicationError(
            f"split: one of {', '.join(SPLITS)}.", code="unknown_choice", param="split"
        )
    if not dataset_version.split_counts.get(split):
        raise ApplicationError(
            f"{dataset_version} has no rows in its {split} split. Import it with a larger share, "
            "or choose another split.",
            code="no_rows",
            param="split",
        )
    kind = dataset_version.dataset.kind
    chosen = metrics_check(kind, metrics)
    sides = _sides(kind, models, owner)
    within(rows, 0, MOST_ROWS, "rows")
    within(max_tokens, 1, 100_000, "max_tokens")
    within(samples, 100, 10_000, "samples")
    within(seed, 0, 2**31 - 1, "seed")
    within(priority, 0, 9, "priority")
    if webhook_url:
        webhook_url_check(url=webhook_url)
    job = Evaluation(
        kind=Evaluation.KIND,
        queue=Evaluation.QUEUE,
        max_attempts=settings.JOB_MAX_ATTEMPTS,
        owner=owner,
        name=(name.strip() or f"{' against '.join(side.label for side in sides)}")[:200],
        dataset_version=dataset_version,
        dataset_label=str(dataset_version),
        split=split,
        metrics=chosen,
        options={
            "rows": rows,
            "max_tokens": max_tokens,
            "seed": seed,
            "samples": samples,
            "device": device,
        },
        priority=priority,
        webhook_url=webhook_url,
        held=not enqueue,
        sent_at=Now() if enqueue else None,
        request_id=request_id(),
    )
    with transaction.atomic():
        job.save(force_insert=True)
        for side in sides:
            side.evaluation = job
        EvaluationSide.objects.bulk_create(sides)
        if enqueue:
            job_enqueue(job=job)
    log.info("evaluation_submitted", job_id=str(job.pk), sides=len(sides), split=split)
    return job


def _sides(kind: str, models: Sequence[str], owner: User | None) -> list[EvaluationSide]:
    if not 1 <= len(models) <= MOST_SIDES:
        raise ApplicationError(
            f"models: name 1 to {MOST_SIDES} to compare.", code="out_of_range", param="models"
        )
    sides = [side_named(name, user=owner, position=n) for n, name in enumerate(models)]
    if len({side.label for side in sides}) < len(sides):
        raise ApplicationError(
            "models: each may be named once.", code="named_twice", param="models"
        )
    for side in sides:
        if reads_pictures(side) != (kind == "ocr"):
            what = "reads pictures of lines" if reads_pictures(side) else "is a language model"
            raise ApplicationError(
                f"'{side.label}' {what}, and the dataset holds "
                f"{'pictures of lines' if kind == 'ocr' else 'texts'}. Choose another of the two.",
                code="wrong_kind",
                param="models",
            )
        _task_check(side.model)
    return sides


def _task_check(model: LanguageModel | None) -> None:
    if model is not None and model.root.task != LanguageModel.Task.GENERATE:
        raise ApplicationError(
            f"'{model.name}' makes embeddings and writes no text.",
            code="model_not_generative",
            param="models",
        )


def evaluation_promote(*, evaluation: Evaluation, position: int | None = None) -> ModelAlias:
    """Gives all requests of its name to the side at `position`; default: the one that is better.

    Raises ApplicationError where none is shown to be better, or the side is no version.
    """
    if evaluation.status != Job.Status.SUCCEEDED:
        raise NotAllowed("The evaluation hasn't succeeded: there is nothing to go by.")
    place = better_side(evaluation) if position is None else position
    if place is None:
        raise NotAllowed(
            f"No side is shown to be the better one in {evaluation.metrics[0]}: the intervals "
            "leave it open. Name the side to promote, or evaluate on more rows.",
            code="no_better_side",
        )
    side = evaluation.sides.select_related("version__language_model").filter(position=place).first()
    if side is None or side.version is None:
        raise NotAllowed(
            "That side is no version that training has made; only such are promoted.",
            code="not_a_version",
        )
    return version_promote(version=side.version)


def better_side(evaluation: Evaluation) -> int | None:
    """The side that beats every other in the first metric, beyond doubt; None if there is none."""
    metric = evaluation.metrics[0] if evaluation.metrics else ""
    wins: dict[int, int] = {}
    for one in evaluation.result.get("differences", []):
        if one["metric"] != metric:
            continue
        if found := verdict(one):
            winner = one["b"] if found == "better" else one["a"]
            wins[winner] = wins.get(winner, 0) + 1
    others = len(evaluation.result.get("sides", [])) - 1
    return next((place for place, count in wins.items() if others and count == others), None)
