"""Jobs under leases: transitions, fencing, recovery. On a real database, with real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from mlops import jobs, reconcile
from mlops.exceptions import EngineUnavailable, JobFailed, NotAllowed
from mlops.jobs import JobContext, execute
from mlops.leases import keeper
from mlops.models import Job
from mlops.services import job_cancel, job_enqueue, job_retry

pytestmark = pytest.mark.django_db


def make(**fields: object) -> Job:
    return Job.objects.create(**{"kind": "test.job", "queue": "default", **fields})


def leased(worker: str = "w:1", **fields: object) -> Job:
    job = Job.objects.lease(make(**fields).pk, worker=worker)
    assert job is not None
    return job


def expire(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs whose message was sent; there is no broker behind it."""
    found: list[str] = []

    def send(job: Job, *, marked: bool = False) -> bool:
        found.append(str(job.pk))
        Job.objects.filter(pk=job.pk).update(sent_at=timezone.now())
        return True

    monkeypatch.setattr("mlops.queues.send", send)
    return found


def test_lease_starts_a_queued_job_once() -> None:
    job = make()
    first = Job.objects.lease(job.pk, worker="a")
    assert first is not None and first.status == "running" and first.attempts == 1
    assert first.worker == "a" and first.lease_until > timezone.now()
    assert Job.objects.lease(job.pk, worker="b") is None
    job.refresh_from_db()
    assert (job.worker, job.attempts) == ("a", 1)


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_gets_each_job() -> None:
    rows = [make() for _ in range(20)]
    start = threading.Barrier(8)

    def worker(name: int) -> list[object]:
        start.wait()
        try:
            return [r.pk for r in rows if Job.objects.lease(r.pk, worker=str(name)) is not None]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        got = [pk for taken in pool.map(worker, range(8)) for pk in taken]
    assert sorted(got) == sorted(row.pk for row in rows)
    assert set(Job.objects.values_list("attempts", flat=True)) == {1}


def test_a_worker_whose_lease_was_taken_over_writes_nothing() -> None:
    old = leased("a")
    expire(old)
    reconcile.jobs_reap()
    new = Job.objects.lease(old.pk, worker="b")
    assert new is not None and new.attempts == 2
    assert not old.set_progress(5, 10)
    assert not old.renew(30)
    assert not old.finish(Job.Status.SUCCEEDED, track=False)
    assert not old.release(counted=True)
    new.refresh_from_db()
    assert (new.status, new.progress_done, new.worker) == ("running", 0, "b")
    assert new.finish(Job.Status.SUCCEEDED, track=False)


def test_cancel_of_a_queued_and_of_a_running_job() -> None:
    queued, running = make(), leased()
    job_cancel(job=queued)
    assert queued.status == "cancelled" and queued.finished_at
    job_cancel(job=running)
    assert running.status == "running" and running.cancel_requested
    running.finish(Job.Status.CANCELLED, track=False)
    with pytest.raises(NotAllowed, match="already ended"):
        job_cancel(job=running)


@pytest.mark.django_db(transaction=True)
def test_retry_keeps_nothing_of_the_failure(sent: list[str]) -> None:
    job = leased()
    with pytest.raises(NotAllowed):
        job_retry(job=job)
    job.finish(Job.Status.FAILED, code="x", error="why", traceback="tb", track=True)
    job_retry(job=job)
    assert job.status == "queued" and job.attempts == 0
    assert (job.error, job.error_code, job.traceback, job.tracking) == ("", "", "", "")
    assert sent == [str(job.pk)]


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_for_a_row_that_was_rolled_back(sent: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        job_enqueue(job=make())
        raise ZeroDivisionError
    assert not sent and not Job.objects.exists()
    with transaction.atomic():
        job = make()
        job_enqueue(job=job)
        assert not sent
    assert sent == [str(job.pk)]


class TestReaper:
    def test_queues_again_what_a_lost_worker_held(self, sent: list[str]) -> None:
        lost, alive = leased(), leased()
        expire(lost)
        assert reconcile.jobs_reap() == 1
        lost.refresh_from_db()
        alive.refresh_from_db()
        assert (lost.status, lost.lease_until) == ("queued", None)
        assert alive.status == "running"
        assert sent == [str(lost.pk)]

    def test_ends_a_job_that_was_asked_to_stop(self, sent: list[str]) -> None:
        job = leased()
        job_cancel(job=job)
        expire(job)
        reconcile.jobs_reap()
        job.refresh_from_db()
        assert job.status == "cancelled" and job.finished_at and not sent

    def test_gives_up_after_the_last_attempt(self, sent: list[str]) -> None:
        job = leased(max_attempts=1)
        expire(job)
        reconcile.jobs_reap()
        job.refresh_from_db()
        assert (job.status, job.error_code, job.tracking) == ("failed", "worker_lost", "pending")
        assert "w:1" in job.error and not sent


class TestResend:
    """Rows against messages: what the broker lost is sent again, and no more than that."""

    @pytest.fixture
    def depth(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        def say(waiting: int) -> None:
            monkeypatch.setattr("mlops.queues.depths", lambda names: dict.fromkeys(names, waiting))

        return say

    def old(self, minutes: int) -> Job:
        job = make()
        sent_at = timezone.now() - timedelta(minutes=minutes)
        Job.objects.filter(pk=job.pk).update(sent_at=sent_at)
        return job

    def test_sends_all_after_a_wipe(self, sent: list[str], depth) -> None:
        waiting = [self.old(1), self.old(2)]
        depth(0)
        assert reconcile.jobs_resend() == 2
        assert set(sent) == {str(job.pk) for job in waiting}
        # They are fresh now: the next round leaves them alone.
        assert reconcile.jobs_resend() == 0

    def test_sends_nothing_while_the_messages_wait(self, sent: list[str], depth) -> None:
        self.old(1), self.old(2)
        depth(2)
        assert reconcile.jobs_resend() == 0 and not sent

    def test_sends_as_many_as_are_missing_oldest_first(self, sent: list[str], depth) -> None:
        _young, oldest, _middle = self.old(1), self.old(9), self.old(5)
        depth(2)
        assert reconcile.jobs_resend() == 1
        assert sent == [str(oldest.pk)]

    def test_a_job_never_sent_comes_first(self, sent: list[str], depth) -> None:
        self.old(9)
        never = make()
        depth(1)
        reconcile.jobs_resend()
        assert sent == [str(never.pk)]

    def test_leaves_fresh_ones_time_to_arrive(self, sent: list[str], depth) -> None:
        Job.objects.filter(pk=make().pk).update(sent_at=timezone.now())
        depth(0)
        assert reconcile.jobs_resend() == 0 and not sent


@pytest.mark.django_db(transaction=True)
class TestExecute:
    """How each end of a run is written down. `run` stands for a runner."""

    def end(self, run: Callable[[Job, JobContext], None], **fields: object) -> Job:
        job = make(**fields)
        status = execute(Job, job.pk, run)
        job.refresh_from_db()
        assert job.status == status
        return job

    def test_success(self) -> None:
        job = self.end(lambda job, context: context.progress(3, 3))
        assert (job.status, job.progress_done, job.tracking) == ("succeeded", 3, "pending")
        assert job.finished_at >= job.started_at and job.lease_until is None

    def test_expected_failure_keeps_no_traceback(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            raise JobFailed("Upload it again.", code="file_missing")

        job = self.end(run)
        assert (job.status, job.error, job.error_code) == (
            "failed",
            "Upload it again.",
            "file_missing",
        )
        assert job.traceback == ""

    def test_missing_engine_says_what_installs_it(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            raise EngineUnavailable("pip install -r requirements/ocr.txt")

        job = self.end(run)
        assert (job.status, job.error_code) == ("failed", "engine_unavailable")
        assert "requirements/ocr.txt" in job.error

    def test_crash_keeps_the_traceback_apart(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            raise ZeroDivisionError("deep inside")

        job = self.end(run)
        assert (job.status, job.error_code) == ("failed", "internal_error")
        assert "deep inside" in job.error and "Traceback" not in job.error
        assert "Traceback" in job.traceback and "in run" in job.traceback

    def test_cancel_between_two_units(self) -> None:
        done = []

        def run(job: Job, context: JobContext) -> None:
            for unit in range(5):
                context.check()
                done.append(unit)
                if unit == 1:
                    Job.objects.get(pk=job.pk).cancel()

        assert self.end(run).status == "cancelled"
        assert done == [0, 1]

    def test_told_to_stop_hands_the_job_on_uncounted(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            jobs.stopping.set()
            context.check()

        try:
            job = self.end(run, max_attempts=3)
        finally:
            jobs.stopping.clear()
        assert (job.status, job.attempts, job.max_attempts) == ("queued", 1, 4)

    def test_passing_trouble_is_tried_again_up_to_the_cap(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            raise OperationalError("the database went away")

        job = self.end(run, max_attempts=2)
        assert (job.status, job.attempts) == ("queued", 1)
        assert execute(Job, job.pk, run) == "failed"
        job.refresh_from_db()
        assert job.error_code == "internal_error" and "went away" in job.error

    def test_a_job_that_somebody_has_is_skipped(self) -> None:
        ran = []
        job = leased()
        assert execute(Job, job.pk, lambda job, context: ran.append(1)) == "skipped"
        assert not ran

    def test_a_deleted_job_stops(self) -> None:
        def run(job: Job, context: JobContext) -> None:
            Job.objects.filter(pk=job.pk).delete()
            context.check()
            raise AssertionError("went on")

        assert execute(Job, make().pk, run) == "lease lost"

    def test_the_lease_outlives_a_long_unit(self, settings) -> None:
        settings.JOB_LEASE_SECONDS = 0.6

        def run(job: Job, context: JobContext) -> None:
            first = Job.objects.get(pk=job.pk).lease_until
            time.sleep(1.5)
            assert not Job.objects.expired().exists()
            assert Job.objects.get(pk=job.pk).lease_until > first

        assert self.end(run).status == "succeeded"

    def test_a_lease_taken_over_is_noticed(self, settings) -> None:
        settings.JOB_LEASE_SECONDS = 0.3

        def run(job: Job, context: JobContext) -> None:
            Job.objects.filter(pk=job.pk).update(worker="another", attempts=7)
            deadline = time.monotonic() + 5
            while not keeper.lost(job):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            context.check()

        job = make()
        assert execute(Job, job.pk, run) == "lease lost"
        job.refresh_from_db()
        assert (job.status, job.worker, job.attempts) == ("running", "another", 7)
