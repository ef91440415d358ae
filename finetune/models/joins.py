"""The part that another machine takes in a training."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import F
from django.urls import reverse

from mlops.models import Job, JobQuerySet


class TrainingJoinQuerySet(JobQuerySet):
    def current(self) -> Self:
        """Those of attempts that are under way."""
        return self.filter(
            over=False, parent__status=Job.Status.RUNNING, parent__attempts=F("attempt")
        )

    def ready(self) -> Self:
        """Those that could begin at once: rows and checkpoint laid out, devices held."""
        return self.filter(status=Job.Status.RUNNING, ready=F("attempts"))


class TrainingJoin(Job):
    """One machine more for one attempt of a training, its `parent`, whose worker makes the row.

    waiting -> ready (with its devices) -> begun (`port` is set: all machines are ready) -> over

    It reports nothing: the first machine tells of the training, and says when it is over. It is
    never taken up again: the next attempt of the training makes rows of its own.
    """

    KIND = "finetune.join"
    QUEUE = "train"
    TRACKED = False
    RETRYABLE = False

    attempt = models.PositiveSmallIntegerField(help_text="of the training")
    rank = models.PositiveSmallIntegerField(help_text="which of the machines it is, from 1 on")
    # Steps of the checkpoints, 0 for none: to go on from, and whose weights to begin with.
    resume_step = models.PositiveIntegerField(default=0)
    begin_step = models.PositiveIntegerField(default=0)
    ready = models.PositiveSmallIntegerField(default=0, help_text="the attempt of this row's own")
    address = models.CharField(max_length=255, blank=True, help_text="of the first machine")
    port = models.PositiveIntegerField(default=0)
    leaving = models.BooleanField(
        default=False, help_text="its worker stops: a checkpoint is to be saved"
    )
    over = models.BooleanField(default=False, help_text="the attempt has ended")

    objects = TrainingJoinQuerySet.as_manager()

    class Meta:
        verbose_name = "machine of a training"
        verbose_name_plural = "machines of trainings"

    def __str__(self) -> str:
        return f"Machine {self.rank + 1} of a training"

    def get_absolute_url(self) -> str:
        """The training's: the API shows no machine on its own."""
        return reverse("trainingjob-detail", args=[self.parent_id])
