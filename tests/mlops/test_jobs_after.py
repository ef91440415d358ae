"""Jobs that wait for another job: sent at its end, and failed with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mlops import endings, reconcile
from mlops.exceptions import JobFailed
from mlops.jobs import JobContext, execute
from mlops.models import Job, WebhookDelivery
from mlops.services import job_cancel, job_enqueue, job_retry

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs whose message was sent; there is no broker behind it."""
    found: list[str] = []

    def send(job: Job, *, marked: bool = False) -> bool:
        found.append(str(job.pk))
        return True

    monkeypatch.setattr("mlops.queues.send", send)
    return found


def make(**fields: Any) -> Job:
    return Job.objects.create(**{"kind": "test.job", "queue": "default", **fields})


def follow(first: Job, **fields: Any) -> Job:
    with transaction.atomic():
        job = make(after=first, **fields)
        job_enqueue(job=job)
    return job


def succeed(job: Job, context: JobContext) -> None:
    context.progress(1, 1)


def fail(job: Job, context: JobContext) -> None:
    raise JobFailed("The file is gone. Upload it again.", code="file_missing")


def test_is_not_leased_and_not_sent_before_the_other_has_ended(sent, monkeypatch) -> None:
    monkeypatch.setattr("mlops.queues.depths", lambda names: dict.fromkeys(names, 0))
    first = make(sent_at=timezone.now())
    second = follow(first)
    assert execute(Job, second.pk, succeed) == "skipped"
    assert reconcile.jobs_resend() == 0 and not sent
    second.refresh_from_db()
    assert (second.status, second.attempts, second.after) == ("queued", 0, first)


def test_is_sent_at_once_when_the_other_succeeds(sent) -> None:
    first = make()
    second = follow(first)
    assert execute(Job, first.pk, succeed) == "succeeded"
    assert sent == [str(second.pk)]
    second.refresh_from_db()
    assert second.after is None and second.sent_at is not None
    assert execute(Job, second.pk, succeed) == "succeeded"


def test_fails_clearly_if_the_other_fails_and_so_does_what_waits_for_it(sent) -> None:
    first = make()
    second = follow(first, webhook_url="https://example.org/hook")
    third = follow(second)
    assert execute(Job, first.pk, fail) == "failed"
    for job in (second, third):
        job.refresh_from_db()
        assert (job.status, job.error_code) == ("failed", "earlier_job_failed")
        assert job.finished_at is not None
    assert "The file is gone. Upload it again. Retry that one" in second.error
    assert not sent
    assert WebhookDelivery.objects.get().job_id == second.pk


def test_fails_clearly_if_the_other_is_cancelled(sent) -> None:
    first = make()
    second = follow(first)
    job_cancel(job=first)
    second.refresh_from_db()
    assert (second.status, second.error_code) == ("failed", "earlier_job_failed")
    assert "was cancelled" in second.error and not sent


def test_is_sent_at_once_if_the_other_has_ended_already(sent) -> None:
    first = make()
    execute(Job, first.pk, succeed)
    second = follow(first)
    assert sent == [str(second.pk)]


def test_a_retry_waits_again_for_the_others_retry(sent) -> None:
    first = make()
    second = follow(first)
    execute(Job, first.pk, fail)
    second.refresh_from_db()
    first.refresh_from_db()
    job_retry(job=first)
    job_retry(job=second)
    second.refresh_from_db()
    assert second.status == "queued" and sent == [str(first.pk)]
    execute(Job, first.pk, succeed)
    assert sent == [str(first.pk), str(second.pk)]


def test_a_retry_alone_fails_again_at_once(sent) -> None:
    first = make()
    second = follow(first)
    execute(Job, first.pk, fail)
    second.refresh_from_db()
    job_retry(job=second)
    second.refresh_from_db()
    assert (second.status, second.error_code) == ("failed", "earlier_job_failed")


def test_what_follows_a_parent_waits_for_all_its_children(sent) -> None:
    parent = make(status="running")
    child = make(parent=parent)
    second = follow(parent)
    execute(Job, child.pk, succeed)
    parent.refresh_from_db()
    assert parent.status == "succeeded" and sent == [str(second.pk)]


def test_maintenance_makes_up_for_an_end_that_nobody_told(sent) -> None:
    first, failed = make(), make()
    second, third = follow(first), follow(failed)
    Job.objects.filter(pk=first.pk).update(status="succeeded")
    Job.objects.filter(pk=failed.pk).update(status="failed", error="why")
    assert endings.followers_repair() == 2
    assert sent == [str(second.pk)]
    third.refresh_from_db()
    assert third.status == "failed"
    assert endings.followers_repair() == 0


def test_a_job_whose_other_was_deleted_is_sent_by_maintenance(sent, monkeypatch) -> None:
    monkeypatch.setattr("mlops.queues.depths", lambda names: dict.fromkeys(names, 0))
    first = make()
    second = follow(first)
    first.delete()
    assert reconcile.jobs_resend() == 1 and sent == [str(second.pk)]


def test_a_waiting_job_is_cancelled_and_stays_so(sent) -> None:
    first = make()
    second = follow(first)
    job_cancel(job=second)
    execute(Job, first.pk, succeed)
    second.refresh_from_db()
    assert second.status == "cancelled" and not sent


def test_a_job_that_nobody_follows_costs_no_more_queries() -> None:
    """Lease (2: taken, read), its end (2: written, read back); nothing else."""
    job = make()
    with CaptureQueriesContext(connection) as queries:
        execute(Job, job.pk, succeed)
    assert len(queries) == 4, [one["sql"] for one in queries]
