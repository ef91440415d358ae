"""A sweep's next step: hopeless trials are ended, the next ones released, the best one served.

Called when a trial has ended and now and then while some run, by any number of workers at once: the
sweep's row is locked for as long as one of them decides.
"""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from django.db import transaction

from finetune.engines.configs import config_of
from finetune.models import ModelVersion, Sweep, TrainingEvent, TrainingJob
from finetune.models.sweeps import curve, objective
from finetune.sweeps.pruning import behind
from finetune.sweeps.space import combinations, is_whole
from finetune.training.result import make_callable
from mlops.exceptions import JobFailed, NotAllowed
from mlops.models import Job
from mlops.services import job_cancel, job_resume

log = structlog.get_logger(__name__)

# How often Optuna is asked for values that haven't been tried.
DRAWS = 20


def advance(pk: uuid.UUID) -> None:
    """Does what is due for the sweep; nothing if it has ended and is settled."""
    with transaction.atomic():
        sweep = Sweep.objects.select_for_update(of=("self",)).filter(pk=pk).first()
        if sweep is None:
            return
        if not (sweep.finished or sweep.cancel_requested):
            trials = list(sweep.tried())
            if sweep.prune:
                _give_up(sweep, trials)
            _release(sweep, trials)
            if sweep.settled:
                # One of its trials is retried: another may be the best in the end.
                Sweep.objects.filter(pk=pk).update(settled=False)
    _cancel_given_up(sweep)
    if sweep.status == Job.Status.SUCCEEDED and not sweep.settled:
        _settle(sweep)


def sweeps_advance(queues: list[str]) -> None:
    """A step of the maintenance of workers that train."""
    if Sweep.QUEUE not in queues:
        return
    waiting = Sweep.objects.filter(status=Job.Status.RUNNING, lease_until=None)
    unsettled = Sweep.objects.filter(status=Job.Status.SUCCEEDED, settled=False)
    for pk in (waiting | unsettled).values_list("pk", flat=True):
        advance(pk)


# -- giving up --------------------------------------------------------------------------------


def given_up(sweep: Sweep) -> set[uuid.UUID]:
    """The trials that were behind the others."""
    events = TrainingEvent.objects.filter(job__parent=sweep.pk, data__pruned=True)
    return set(events.values_list("job", flat=True))


def _give_up(sweep: Sweep, trials: list[TrainingJob]) -> None:
    known = given_up(sweep)
    curves = {
        job.pk: [(epoch, value) for epoch, _step, value in curve(job, sweep.metric)]
        for job in trials
        if released(job) and job.status != Job.Status.FAILED
    }
    for job in trials:
        if job.status != Job.Status.RUNNING or job.pk in known or not job.progress_done:
            continue
        own = curves[job.pk]
        epochs = own[-1][0] * job.progress_total / job.progress_done if own else 0.0
        others = [points for pk, points in curves.items() if pk != job.pk]
        median = behind(own, others, epochs=epochs, minimize=sweep.minimize)
        if median is None:
            continue
        best = (min if sweep.minimize else max)(value for _epoch, value in own)
        TrainingEvent.objects.create(
            job=job,
            level=TrainingEvent.Level.WARN,
            message=f"Ended early: its {sweep.metric} ({best:.4g}) is behind the median of the "
            f"sweep's other trials at epoch {own[-1][0]:.3g} ({median:.4g}).",
            data={"pruned": True, "value": own[-1][1], "median": median},
        )
        log.info("trial_given_up", sweep=str(sweep.pk), trial=job.trial, value=best, median=median)


def _cancel_given_up(sweep: Sweep) -> None:
    """Also those whose cancelling was cut off."""
    jobs = TrainingJob.objects.filter(pk__in=given_up(sweep), cancel_requested=False)
    for job in jobs.filter(status__in=[Job.Status.RUNNING, Job.Status.QUEUED]):
        try:
            job_cancel(job=job)
        except NotAllowed:
            continue


# -- going on ---------------------------------------------------------------------------------


def released(job: TrainingJob) -> bool:
    """Whether its turn has come; until then it has no values."""
    return bool(job.trial_values)


def _release(sweep: Sweep, trials: list[TrainingJob]) -> None:
    """Gives as many trials their values as may run beside each other."""
    active = sum(released(job) and not job.finished and not job.held for job in trials)
    waiting = [job for job in trials if not released(job) and not job.finished]
    for job in waiting[: max(0, sweep.parallel - active)]:
        values = _values(sweep, job, trials)
        options = config_of(sweep.method, {**sweep.options, **values}).as_options()
        job.options, job.trial_values = options, values
        TrainingJob.objects.filter(pk=job.pk).update(options=options, trial_values=values)
        job_resume(job=job)
        log.info("trial_released", sweep=str(sweep.pk), trial=job.trial, values=values)


def _values(sweep: Sweep, job: TrainingJob, trials: list[TrainingJob]) -> dict[str, Any]:
    if sweep.search == Sweep.Search.GRID:
        return combinations(sweep.space)[(job.trial or 1) - 1]
    # Here, since Optuna is the trainers' alone: the site reads this module, too.
    from finetune.engines.search import Trial, suggest

    pruned, past = given_up(sweep), []
    for other in trials:
        if released(other) and other.status != Job.Status.FAILED:
            value = objective(other, sweep.metric, minimize=sweep.minimize)
            ended = other.finished and value is not None
            past.append(Trial(other.trial_values, value if ended else None, other.pk in pruned))
    tried = [dict(trial.values) for trial in past]
    whole = frozenset(name for name in sweep.space if is_whole(sweep.method, name))
    seed = int(sweep.options.get("seed", 0)) + (job.trial or 0) * DRAWS
    found: dict[str, Any] = {}
    for draw in range(DRAWS):
        found = suggest(
            sweep.space, past, whole=whole, minimize=sweep.minimize, seed=(seed + draw) % 2**31
        )
        if found not in tried:
            break
    return found


# -- the end ----------------------------------------------------------------------------------


def _settle(sweep: Sweep) -> None:
    """Makes what came of the best trial callable; why it can't be stands among its events."""
    best = sweep.best
    version = best.versions.order_by("-step").first() if best else None
    if best is not None and version is not None:
        try:
            if version.fitness == ModelVersion.Fitness.UNFIT:
                raise JobFailed(f"{version} is unfit: see its parity check.", code="unfit")
            make_callable(version, best)
        except JobFailed as error:
            TrainingEvent.objects.create(
                job=best, level=TrainingEvent.Level.ERROR, message=error.message
            )
        else:
            TrainingEvent.objects.create(
                job=best,
                message=f"The sweep's best; it can be called as {' or '.join(version.called_by)}.",
            )
    Sweep.objects.filter(pk=sweep.pk).update(settled=True)
