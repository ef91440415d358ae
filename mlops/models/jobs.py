"""The row that everything which takes longer than a page view is first."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.db.models.functions import Coalesce, Now

from mlops import bell
from mlops.exceptions import NotAllowed
from mlops.metrics.ends import job_ended
from mlops.models.accounts import User
from mlops.models.webhooks import Webhook
from mlops.tracking import RunRecord

WRITTEN_AT_THE_END = (
    *("status", "error_code", "error", "traceback", "progress_done", "progress_total"),
    *("finished_at", "lease_until", "cancel_requested", "unannounced"),
    *("tracking", "tracking_after"),
)


class JobQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if user.sees_all else self.filter(owner=user)

    def lease(self, pk: uuid.UUID | str, *, worker: str) -> Job | None:
        """Takes a queued job for `worker`; None if it isn't queued (any more).

        One conditional update, so that of any number of workers exactly one gets the row.
        """
        taken = (
            Job.objects.due()
            .filter(pk=pk)
            .update(
                status=Job.Status.RUNNING,
                attempts=F("attempts") + 1,
                worker=worker,
                started_at=Coalesce("started_at", Now()),
                heartbeat_at=Now(),
                lease_until=Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS),
            )
        )
        return self.get(pk=pk) if taken else None

    def expired(self) -> Self:
        return self.filter(status=Job.Status.RUNNING, lease_until__lt=Now())

    def unfinished(self) -> Self:
        return self.filter(status__in=[Job.Status.QUEUED, Job.Status.RUNNING])

    def due(self) -> Self:
        """Queued jobs that wait for nothing but a worker."""
        return self.filter(status=Job.Status.QUEUED, after=None, held=False)

    def waiting(self) -> Self:
        """Jobs that have done their own part and wait for their children: nobody holds them."""
        return self.filter(status=Job.Status.RUNNING, lease_until=None)


class Job(models.Model):
    """Something that runs in a worker; the row is the truth about it, a message only a hint.

    queued -> running (lease) | cancelled
    running -> succeeded | failed | cancelled (by the worker that holds the lease)
    running -> queued (lease ran out, attempts left) | failed (none left) | cancelled (was asked)
    running -> running without a lease (waits for its children), which ends with the last of them
    queued after another job -> queued (that one succeeded) | failed (it failed or was cancelled)
    running -> queued, held (paused: stops between two units) -> queued (resumed)
    failed, cancelled -> queued (retry), or -> running without a lease (a child is retried)

    A lease is the pair (row, attempt): every write of a worker names the attempt it holds, so one
    whose lease was taken over can write nothing more.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Tracking(models.TextChoices):
        NONE = "", "not tracked"
        PENDING = "pending"
        LOGGED = "logged"
        DROPPED = "dropped"

    # Set by each child: the Celery task's name, and the queue it goes to.
    KIND = ""
    QUEUE = "default"
    # Whether its end is logged as a run.
    TRACKED = True
    # Whether it may be paused: what it has done by then is kept.
    PAUSABLE = False
    # Whether one that failed or was cancelled may be done again by itself.
    RETRYABLE = True

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=100, editable=False)
    queue = models.CharField(max_length=50, editable=False)
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    priority = models.PositiveSmallIntegerField(default=3, help_text="0 (first) to 9")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children"
    )
    after = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="followers",
        db_index=False,
        editable=False,
        help_text="the job whose success this one waits for; empty once it has come",
    )
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)

    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    held = models.BooleanField(
        default=False, db_default=False, help_text="paused: no worker takes it until it is resumed"
    )

    error_code = models.CharField(max_length=100, blank=True)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)

    webhook_url = models.URLField(max_length=500, blank=True, help_text="told of the end")
    # Ended, and who must be told of it (parent, followers, webhooks) has not been told yet.
    unannounced = models.BooleanField(default=False, editable=False, db_default=False)

    request_id = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    tracking = models.CharField(
        max_length=20, choices=Tracking, default=Tracking.NONE, blank=True, db_default=""
    )
    tracking_after = models.DateTimeField(null=True, blank=True)
    tracking_note = models.TextField(blank=True)
    mlflow_run_id = models.CharField(max_length=64, blank=True)
    mlflow_run_url = models.URLField(max_length=500, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["queue", "status", "sent_at"], name="job_queue"),
            models.Index(fields=["status", "lease_until"], name="job_lease"),
            models.Index(fields=["owner", "-created_at"], name="job_owner"),
            models.Index(fields=["kind", "created_at"], name="job_kind"),
            models.Index(fields=["tracking", "tracking_after"], name="job_tracking"),
            models.Index(
                fields=["finished_at"], condition=Q(unannounced=True), name="job_unannounced"
            ),
            models.Index(fields=["after"], condition=Q(after__isnull=False), name="job_after"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def finished(self) -> bool:
        return self.status in (self.Status.SUCCEEDED, self.Status.FAILED, self.Status.CANCELLED)

    @property
    def seconds(self) -> float | None:
        """From the first start to the end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()

    def specific(self) -> Job:
        """This job as its app's own model."""
        for child in Job.__subclasses__():
            if self.kind == child.KIND and not isinstance(self, child):
                return child.objects.get(pk=self.pk)
        return self

    def run_record(self) -> RunRecord:
        """What the tracker is told of this job; each kind says its own."""
        return RunRecord(name=str(self))

    def outcome_of_children(self, *, failed: int, cancelled: int) -> tuple[str, str, str]:
        """(status, error code, error) of a job whose children have all ended."""
        if self.cancel_requested:
            return self.Status.CANCELLED, "", ""
        if failed or cancelled:
            error = f"{failed} parts failed and {cancelled} were cancelled; retry reads only those."
            return self.Status.FAILED, "parts_failed", error
        return self.Status.SUCCEEDED, "", ""

    @staticmethod
    def ending() -> dict[str, object]:
        """What every update that ends a job writes, beside the status."""
        listens = Exists(Webhook.objects.filter(owner=OuterRef("owner"), enabled=True))
        follows = Exists(Job.objects.filter(after=OuterRef("pk")))
        told = Q(parent__isnull=False) | ~Q(webhook_url="") | Q(listens) | Q(follows)
        return {
            "finished_at": Now(),
            "lease_until": None,
            "unannounced": Case(When(told, then=True), default=False),
        }

    # -- by the worker that holds the lease ---------------------------------------------------

    def _held(self) -> models.QuerySet[Job]:
        return Job.objects.filter(
            pk=self.pk, status=self.Status.RUNNING, attempts=self.attempts, worker=self.worker
        )

    def renew(self, seconds: float) -> bool:
        """Pushes the lease on from now; False if it is no longer ours."""
        return bool(
            self._held().update(heartbeat_at=Now(), lease_until=Now() + timedelta(seconds=seconds))
        )

    def set_progress(self, done: int, total: int) -> bool:
        """False if the lease is no longer ours."""
        self.progress_done, self.progress_total = done, total
        return bool(self._held().update(progress_done=done, progress_total=total))

    def finish(
        self, status: str, *, code: str = "", error: str = "", traceback: str = "", track: bool
    ) -> bool:
        """The end of a run; False if the lease is no longer ours, and then nothing is written."""
        ended = self._held().update(
            status=status,
            error_code=code,
            error=error,
            traceback=traceback,
            progress_done=self.progress_done,
            progress_total=self.progress_total,
            **self.ending(),
            tracking=self.Tracking.PENDING if track else self.Tracking.NONE,
            tracking_after=Now(),
        )
        if ended:
            bell.ring(self.pk)
            # Not otherwise: the row's new holder would become ours. (refresh_from_db would join
            # the child's table for it, at a millisecond a job.)
            written = Job.objects.filter(pk=self.pk).values(*WRITTEN_AT_THE_END)
            for name, value in written.get().items():
                setattr(self, name, value)
            job_ended(kind=self.kind, queue=self.queue, status=status, seconds=self.seconds)
        return bool(ended)

    def wait_for_children(self) -> bool:
        """Gives the lease up without ending; False if it is no longer ours."""
        return bool(self._held().update(lease_until=None))

    def release(self, *, counted: bool) -> bool:
        """Back to the queue, to be sent again shortly; False if the lease is no longer ours.

        `counted`: whether the attempt counts against the cap. One that ended because the worker
        was told to stop doesn't.
        """
        return bool(
            self._held().update(
                status=self.Status.QUEUED,
                lease_until=None,
                sent_at=Now(),
                max_attempts=F("max_attempts") + (0 if counted else 1),
            )
        )

    # -- by anybody else ----------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancels a queued job; asks a running one to stop, which it does between two units."""
        row = Job.objects.filter(pk=self.pk)
        ended = row.filter(status=self.Status.QUEUED).update(
            status=self.Status.CANCELLED, cancel_requested=True, **self.ending()
        )
        if ended:
            job_ended(kind=self.kind, queue=self.queue, status=self.Status.CANCELLED)
        changed = ended or row.filter(status=self.Status.RUNNING).update(cancel_requested=True)
        self.refresh_from_db()
        if not changed:
            raise NotAllowed(f"The job has already ended ({self.status}); nothing to cancel.")

    def pause(self) -> None:
        """Holds a queued job back; a running one stops between two units and is held then."""
        changed = Job.objects.filter(
            pk=self.pk,
            status__in=[self.Status.QUEUED, self.Status.RUNNING],
            cancel_requested=False,
            held=False,
        ).update(held=True)
        self.refresh_from_db()
        if not changed:
            state = "paused already" if self.held else "about to end"
            state = self.status if self.finished else state
            raise NotAllowed(f"Only a queued or running job can be paused; this one is {state}.")

    def resume(self) -> None:
        """Lets a paused job go on, from where it was."""
        changed = Job.objects.filter(pk=self.pk, held=True).update(held=False, sent_at=None)
        self.refresh_from_db()
        if not changed:
            raise NotAllowed("The job is not paused.")

    def retry(self) -> None:
        """Queues a failed or cancelled job again; what it had done is kept."""
        changed = Job.objects.filter(
            pk=self.pk, status__in=[self.Status.FAILED, self.Status.CANCELLED]
        ).update(
            status=self.Status.QUEUED,
            attempts=0,
            cancel_requested=False,
            held=False,
            error_code="",
            error="",
            traceback="",
            finished_at=None,
            sent_at=None,
            unannounced=False,
            tracking=self.Tracking.NONE,
        )
        self.refresh_from_db()
        if not changed:
            raise NotAllowed(
                f"Only a failed or cancelled job can be retried; this one is {self.status}."
            )
