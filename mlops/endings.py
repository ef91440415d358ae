"""What follows when a job ends: its parent gets further or ends too, jobs that waited for it are
sent, and webhooks are told.

An ended row that somebody must be told of says so itself (`unannounced`), so that a process killed
between the two loses nothing: the maintenance round makes up for it.
"""

from __future__ import annotations

import time
import uuid

import structlog
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.db.models.functions import Now

from mlops import bell, queues, webhooks
from mlops.metrics.ends import job_ended
from mlops.models import Job, JobQuerySet

log = structlog.get_logger(__name__)

# Between two sums over the children of one parent while none of them ends.
REFRESH_SECONDS = 1.0
_refreshed: dict[uuid.UUID, float] = {}


def announce(job: Job) -> None:
    """Tells of the job's end whoever must be told; once, however often it is called."""
    if not job.unannounced:
        return
    with transaction.atomic():
        if not Job.objects.filter(pk=job.pk, unannounced=True).update(unannounced=False):
            return
        if job.parent_id is None:
            webhooks.deliveries_create(job)
    job.unannounced = False
    followers_settle(job)
    if job.parent_id is not None:
        parent_child_ended(job.parent_id)


def endings_announce(*, limit: int = 200) -> int:
    """Announces what was left over by processes that are gone; returns how many."""
    left = list(Job.objects.filter(unannounced=True).order_by("finished_at")[:limit])
    for job in left:
        announce(job)
    return len(left)


def parents_repair() -> int:
    """Looks at every job that waits for its children; returns how many there are.

    The last child may have ended in a process that died before it told.
    """
    waiting = list(Job.objects.waiting().values_list("pk", flat=True))
    for pk in waiting:
        parent_refresh(pk)
    return len(waiting)


def followers_settle(job: Job) -> None:
    """Sends the jobs that waited for this ended one; fails them if it did not succeed.

    Any number of processes may do this at once: each row is changed by one of them.
    """
    waiting = Job.objects.filter(after=job.pk, status=Job.Status.QUEUED)
    for follower in list(waiting):
        row = waiting.filter(pk=follower.pk)
        if job.status == Job.Status.SUCCEEDED:
            if row.update(after=None, sent_at=Now()):
                queues.send(follower, marked=True)
        # `after` stays, so that a retry waits again: for the retry of the other, or for nothing.
        elif row.update(
            status=Job.Status.FAILED,
            error_code="earlier_job_failed",
            error=_not_followed(job),
            tracking=Job.Tracking.NONE,
            **Job.ending(),
        ):
            follower.refresh_from_db()
            job_ended(kind=follower.kind, queue=follower.queue, status=follower.status)
            log.info("job_ended", job_id=str(follower.pk), kind=follower.kind, status="failed")
            announce(follower)
            bell.ring(follower.pk)


def _not_followed(job: Job) -> str:
    what = f"The job that this one waited for ({job.kind} {job.pk})"
    if job.status == Job.Status.CANCELLED:
        return f"{what} was cancelled. Retry that one, then this one."
    return f"{what} failed: {job.error} Retry that one, then this one."


def followers_repair() -> int:
    """Settles the jobs that still wait for one that has ended; returns how many such there are.

    One may have come to wait in the moment of the end, or its process may have died in it.
    """
    ended = [Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED]
    waiting = Job.objects.filter(after__isnull=False, status=Job.Status.QUEUED)
    found = set(waiting.filter(after__status__in=ended).values_list("after", flat=True).order_by())
    for job in Job.objects.filter(pk__in=found):
        followers_settle(job)
    return len(found)


def children_cancel(job: Job) -> int:
    """Cancels the queued children and asks the running ones to stop; returns how many."""
    children = Job.objects.filter(parent=job.pk)
    ended = children.filter(status=Job.Status.QUEUED).update(
        status=Job.Status.CANCELLED, cancel_requested=True, **Job.ending()
    )
    if ended:
        # The children of one job are alike.
        kind, queue = children.order_by().values_list("kind", "queue")[0]
        job_ended(kind=kind, queue=queue, status=Job.Status.CANCELLED, jobs=ended)
    # The parent's end says it all.
    children.filter(status=Job.Status.CANCELLED, unannounced=True).update(unannounced=False)
    return ended + children.filter(status=Job.Status.RUNNING).update(cancel_requested=True)


def parent_reopen(pk: uuid.UUID) -> None:
    """An ended parent waits again, since one of its children is retried."""
    Job.objects.filter(
        pk=pk, status__in=[Job.Status.SUCCEEDED, Job.Status.FAILED, Job.Status.CANCELLED]
    ).update(
        status=Job.Status.RUNNING,
        lease_until=None,
        cancel_requested=False,
        error_code="",
        error="",
        finished_at=None,
        unannounced=False,
        tracking=Job.Tracking.NONE,
    )
    bell.ring(pk)


def parent_child_ended(pk: uuid.UUID) -> None:
    if Job.objects.unfinished().filter(parent=pk).exists():
        parent_refresh_now_and_then(pk)
    else:
        parent_refresh(pk)


def parent_refresh_now_and_then(pk: uuid.UUID | None) -> None:
    """For steps that come many a second: the sum over all children is not free."""
    if pk is not None and time.monotonic() - _refreshed.get(pk, -REFRESH_SECONDS) >= (
        REFRESH_SECONDS
    ):
        parent_refresh(pk)


def parent_refresh(pk: uuid.UUID) -> None:
    """Sums up the children of a waiting job, and ends it if all of them have ended.

    Any number of processes may do this at once: one of them ends it.
    """
    now = time.monotonic()
    for old in [key for key, at in list(_refreshed.items()) if now - at > REFRESH_SECONDS]:
        _refreshed.pop(old, None)
    _refreshed[pk] = now
    totals = Job.objects.filter(parent=pk).aggregate(
        done=Sum("progress_done"),
        total=Sum("progress_total"),
        open=Count("pk", filter=Q(status__in=[Job.Status.QUEUED, Job.Status.RUNNING])),
        failed=Count("pk", filter=Q(status=Job.Status.FAILED)),
        cancelled=Count("pk", filter=Q(status=Job.Status.CANCELLED)),
    )
    row = Job.objects.waiting().filter(pk=pk)
    row.update(progress_done=totals["done"] or 0, progress_total=totals["total"] or 0)
    if not totals["open"]:
        _parent_end(row, failed=totals["failed"], cancelled=totals["cancelled"])
    bell.ring(pk)


def _parent_end(row: JobQuerySet, *, failed: int, cancelled: int) -> None:
    job = row.first()
    if job is None:
        return
    status, code, error = job.specific().outcome_of_children(failed=failed, cancelled=cancelled)
    # Not if a child was retried meanwhile, or another process has ended it.
    unfinished = Job.objects.unfinished().filter(parent=OuterRef("pk"))
    if not row.filter(~Exists(unfinished)).update(
        status=status,
        error_code=code,
        error=error,
        tracking=Job.Tracking.PENDING,
        tracking_after=Now(),
        **Job.ending(),
    ):
        return
    job.refresh_from_db()
    job_ended(kind=job.kind, queue=job.queue, status=status, seconds=job.seconds)
    log.info("job_ended", job_id=str(job.pk), kind=job.kind, status=status, error=error)
    announce(job)
