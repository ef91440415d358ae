"""The rows that every app shares: users, API keys, jobs, and signs of life from queues."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F
from django.db.models.functions import Coalesce, Now
from knox.models import AbstractAuthToken

from mlops.exceptions import NotAllowed
from mlops.tracking import RunRecord


class User(AbstractUser):
    """A person or a program that logs in. What they may do comes from groups (`mlops.roles`)."""

    class Meta(AbstractUser.Meta):
        permissions = [("view_all", "Can see everybody's documents and jobs")]

    @property
    def sees_all(self) -> bool:
        return self.has_perm("mlops.view_all")


class ApiKey(AbstractAuthToken):
    """A bearer key: stored as a hash, found by its indexed first characters, shown once."""

    name = models.CharField(max_length=100, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        ordering = ["-created"]

    def __str__(self) -> str:
        return f"{self.token_key}… ({self.name or self.user})"

    def revoke(self) -> None:
        """From now on requests with this key are answered 401; the row stays as a record."""
        type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=Now())
        self.refresh_from_db(fields=["revoked_at"])


class JobQuerySet(models.QuerySet):
    def visible_to(self, user: User) -> Self:
        return self if user.sees_all else self.filter(owner=user)

    def lease(self, pk: uuid.UUID | str, *, worker: str) -> Job | None:
        """Takes a queued job for `worker`; None if it isn't queued (any more).

        One conditional update, so that of any number of workers exactly one gets the row.
        """
        taken = Job.objects.filter(pk=pk, status=Job.Status.QUEUED).update(
            status=Job.Status.RUNNING,
            attempts=F("attempts") + 1,
            worker=worker,
            started_at=Coalesce("started_at", Now()),
            heartbeat_at=Now(),
            lease_until=Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS),
        )
        return self.get(pk=pk) if taken else None

    def expired(self) -> Self:
        return self.filter(status=Job.Status.RUNNING, lease_until__lt=Now())


class Job(models.Model):
    """Something that runs in a worker; the row is the truth about it, a message only a hint.

    queued -> running (lease) | cancelled
    running -> succeeded | failed | cancelled (by the worker that holds the lease)
    running -> queued (lease ran out, attempts left) | failed (none left) | cancelled (was asked)
    failed, cancelled -> queued (retry)

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

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=100, editable=False)
    queue = models.CharField(max_length=50, editable=False)
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    priority = models.PositiveSmallIntegerField(default=3, help_text="0 (first) to 9")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)

    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)

    error_code = models.CharField(max_length=100, blank=True)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)

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
            models.Index(fields=["tracking", "tracking_after"], name="job_tracking"),
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
        """What the tracker is told of this job; each child says its own."""
        return RunRecord(name=str(self))

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
            finished_at=Now(),
            lease_until=None,
            tracking=self.Tracking.PENDING if track else self.Tracking.NONE,
            tracking_after=Now(),
        )
        if ended:
            # Not otherwise: the row's new holder would become ours.
            self.refresh_from_db()
        return bool(ended)

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
        changed = row.filter(status=self.Status.QUEUED).update(
            status=self.Status.CANCELLED, finished_at=Now(), cancel_requested=True
        ) or row.filter(status=self.Status.RUNNING).update(cancel_requested=True)
        self.refresh_from_db()
        if not changed:
            raise NotAllowed(f"The job has already ended ({self.status}); nothing to cancel.")

    def retry(self) -> None:
        """Queues a failed or cancelled job again; what it had done is kept."""
        changed = Job.objects.filter(
            pk=self.pk, status__in=[self.Status.FAILED, self.Status.CANCELLED]
        ).update(
            status=self.Status.QUEUED,
            attempts=0,
            cancel_requested=False,
            error_code="",
            error="",
            traceback="",
            finished_at=None,
            sent_at=None,
            tracking=self.Tracking.NONE,
        )
        self.refresh_from_db()
        if not changed:
            raise NotAllowed(
                f"Only a failed or cancelled job can be retried; this one is {self.status}."
            )


class QueuePulse(models.Model):
    """When a message was last consumed from a queue: proof of a worker that works, not of a pid."""

    queue = models.CharField(max_length=50, primary_key=True)
    seen_at = models.DateTimeField()
    worker = models.CharField(max_length=200)

    def __str__(self) -> str:
        return f"{self.queue} {self.seen_at}"
