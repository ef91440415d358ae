"""Paused jobs: held back, stopped between two units, resumed where they were."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from finetune.models import TrainingJob
from mlops import reconcile
from mlops.exceptions import JobInterrupted, NotAllowed
from mlops.jobs import JobContext, execute
from mlops.models import Job
from mlops.services import job_cancel, job_pause, job_resume, job_retry

pytestmark = pytest.mark.django_db


def make(**fields: object) -> TrainingJob:
    """A kind of job that may be paused."""
    values = {"kind": TrainingJob.KIND, "queue": "train", "name": "held", "method": "sft"}
    return TrainingJob.objects.create(**{**values, **fields})


def test_a_held_job_is_given_to_nobody() -> None:
    job = make()
    job_pause(job=job)
    assert (job.status, job.held, job.paused) == ("queued", True, True)
    assert Job.objects.lease(job.pk, worker="a") is None
    assert not Job.objects.due().exists()
    with pytest.raises(NotAllowed, match="paused already"):
        job_pause(job=job)
    job_resume(job=job)
    assert Job.objects.lease(job.pk, worker="a") is not None


def test_a_vanished_message_of_a_held_job_is_not_sent_again(monkeypatch) -> None:
    job = make(sent_at=timezone.now() - timedelta(hours=1))
    job_pause(job=job)
    sent: list[Job] = []
    monkeypatch.setattr("mlops.queues.depths", lambda names: dict.fromkeys(names, 0))
    monkeypatch.setattr("mlops.queues.send", lambda job: bool(sent.append(job)) or True)
    assert reconcile.jobs_resend() == 0
    job_resume(job=job)
    assert reconcile.jobs_resend() == 1 and sent == [Job.objects.get(pk=job.pk)]


def test_a_running_job_stops_between_two_units_and_goes_on_later() -> None:
    job, units = make(), []

    def run(running: Job, context: JobContext) -> None:
        for unit in range(len(units), 4):
            context.check()
            units.append(unit)
            context.progress(unit + 1, 4)
            if unit == 1:
                job_pause(job=Job.objects.get(pk=running.pk))

    assert execute(TrainingJob, job.pk, run) == "queued"
    job.refresh_from_db()
    # Somebody's wish is no failure of an attempt.
    assert (job.paused, units, job.max_attempts) == (True, [0, 1], 4)
    assert execute(TrainingJob, job.pk, run) == "skipped"
    job_resume(job=job)
    assert execute(TrainingJob, job.pk, run) == "succeeded"
    assert units == [0, 1, 2, 3]


def test_a_pause_taken_back_in_time_stops_nothing() -> None:
    job = make()

    def run(running: Job, context: JobContext) -> None:
        row = Job.objects.get(pk=running.pk)
        job_pause(job=row)
        job_resume(job=row)
        context.check()

    assert execute(TrainingJob, job.pk, run) == "succeeded"


def test_what_has_ended_or_is_of_another_kind_is_not_paused() -> None:
    job = make()
    job_cancel(job=job)
    with pytest.raises(NotAllowed, match="cancelled"):
        job_pause(job=job)
    other = Job.objects.create(kind="test.job", queue="default")
    with pytest.raises(NotAllowed, match="can't be paused"):
        job_pause(job=other)
    with pytest.raises(NotAllowed, match="not paused"):
        job_resume(job=other)


def test_a_paused_job_can_be_cancelled_and_tried_again() -> None:
    job = make()
    job_pause(job=job)
    job_cancel(job=job)
    assert job.status == "cancelled"
    job_retry(job=job)
    assert (job.status, job.held) == ("queued", False)


def test_what_was_cut_off_goes_on_until_the_attempts_are_used_up() -> None:
    job = make(max_attempts=2)

    def run(_job: Job, _context: JobContext) -> None:
        raise JobInterrupted("The trainer was killed.")

    assert execute(TrainingJob, job.pk, run) == "queued"
    assert execute(TrainingJob, job.pk, run) == "failed"
