"""A training on several machines, as the first of them sees the others: through rows alone.

Each other machine is a row (`TrainingJoin`) that some worker takes. Once all are ready they are
told where to meet, and from then on the trainers talk to each other; a stop is told to the first
one's and goes round from there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from finetune.engines.base import PEER_LOST, TrainSpec
from finetune.models import TrainingJob, TrainingJoin
from finetune.models.joins import TrainingJoinQuerySet
from finetune.training.address import free_port, own_address
from finetune.training.beginning import step_of
from finetune.training.child import Meeting
from finetune.training.progress import INFO, Recorder
from finetune.training.turns import gathering, machines_of
from mlops import queues
from mlops.exceptions import JobFailed, JobInterrupted
from mlops.jobs import WorkerStopping
from mlops.models import Job
from mlops.services import job_enqueue

LOOK_SECONDS = 1.0
# A message may have reached a worker that has no device free; it is sent again for the others.
SEND_SECONDS = 5.0
# For the others to end once the attempt is over; for one to say why it has failed.
END_SECONDS, REASON_SECONDS = 20.0, 15.0
# Ends that are no fault of the training's: it goes on from its last checkpoint.
CUT_OFF = ("", "worker_lost", "internal_error", "trainer_killed", PEER_LOST)


@contextmanager
def gathered(
    job: TrainingJob, spec: TrainSpec, recorder: Recorder, look: Callable[[], None]
) -> Iterator[Others]:
    """Waits until all machines of the training are ready; tells them when it is over."""
    others = Others(job, machines_of(job) - 1)
    try:
        if others.count:
            recorder.phase(job.Phase.MACHINES)
            others.gather(spec, recorder, look)
        yield others
    finally:
        if others.count:
            others.end()


class Others:
    """The other machines of one attempt; there may be none."""

    def __init__(self, job: TrainingJob, count: int) -> None:
        self.count = count
        self.meeting: Meeting | None = None
        self._job, self._looked = job, 0.0
        self._asked: list[uuid.UUID] = []

    @property
    def _rows(self) -> TrainingJoinQuerySet:
        return TrainingJoin.objects.filter(pk__in=self._asked).order_by("rank")

    def gather(self, spec: TrainSpec, recorder: Recorder, look: Callable[[], None]) -> None:
        """Raises JobFailed where too few come in time."""
        # Of an attempt whose worker was lost: a retry counts its attempts from the start again.
        TrainingJoin.objects.filter(parent=self._job.pk).update(over=True)
        for rank in range(1, self.count + 1):
            self._ask(rank, spec)
        began = sent = time.monotonic()
        while (missing := self.count - self._rows.ready().count()) > 0:
            look()
            self._lost_check(self._rows)
            now = time.monotonic()
            if now - began > settings.TRAINING_JOIN_SECONDS:
                raise self._missing(missing)
            if self._gives_way():
                recorder.tell(INFO, "An earlier training waits for machines; it goes first.")
                # As when the worker stops: back to the queue, and the attempt doesn't count.
                raise WorkerStopping
            if now - sent > SEND_SECONDS:
                sent = now
                for row in self._rows.due():
                    queues.send(row)
            time.sleep(LOOK_SECONDS)
        self.meeting = Meeting(self.count + 1, 0, own_address(), free_port())
        self._rows.update(address=self.meeting.address, port=self.meeting.port)
        workers = ", ".join(self._rows.values_list("worker", flat=True))
        recorder.tell(INFO, f"{self.count + 1} machines take part; the others are {workers}.")

    def _ask(self, rank: int, spec: TrainSpec) -> None:
        row = TrainingJoin(
            kind=TrainingJoin.KIND,
            queue=TrainingJoin.QUEUE,
            # Before any other training: machines stand idle for it.
            priority=0,
            max_attempts=1,
            owner=self._job.owner,
            parent=self._job,
            attempt=self._job.attempts,
            rank=rank,
            resume_step=step_of(spec.resume),
            begin_step=step_of(spec.begin_with),
            sent_at=Now(),
            request_id=self._job.request_id,
        )
        with transaction.atomic():
            row.save(force_insert=True)
            job_enqueue(job=row)
        self._asked.append(row.pk)

    def _gives_way(self) -> bool:
        """Whether an earlier one waits for machines too: each would wait for the other's."""
        earlier = gathering().filter(parent__created_at__lt=self._job.created_at)
        return earlier.exclude(parent=self._job.pk).exists()

    def _missing(self, missing: int) -> JobFailed:
        count = int(self._job.options.get("processes", 1))
        device = self._job.options.get("device", "auto")
        return JobFailed(
            f"{missing} of the {self.count + 1} machines were missing for "
            f"{settings.TRAINING_JOIN_SECONDS:g} seconds. Start as many more workers of the queue "
            f"train, each on a machine of its own with {count} free device(s) ('{device}'), or "
            "wait until other trainings have ended, and retry; or lower 'machines'. "
            "TRAINING_JOIN_SECONDS says how long is waited.",
            code="machines_missing",
        )

    def look(self) -> None:
        """Raises WorkerStopping where another's worker is to stop, and what `reason` would."""
        now = time.monotonic()
        if not self.count or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        rows = list(self._rows)
        self._lost_check(rows)
        if any(row.leaving for row in rows):
            raise WorkerStopping

    def reason(self) -> JobFailed | JobInterrupted | None:
        """Why the trainer has lost the others, once one of them says it."""
        until = time.monotonic() + REASON_SECONDS
        while self.count:
            rows = list(self._rows)
            told = [row for row in rows if row.finished and row.error_code not in CUT_OFF]
            if told or time.monotonic() > until or all(row.finished for row in rows):
                return self._why(told or rows)
            time.sleep(LOOK_SECONDS)
        return None

    def _lost_check(self, rows: Iterable[TrainingJoin]) -> None:
        """Raises JobFailed where one has failed by itself, JobInterrupted where one is gone."""
        gone = [row for row in rows if self._is_gone(row)]
        if gone:
            raise self._why(gone)

    def _is_gone(self, row: TrainingJoin) -> bool:
        """Its trainer may end before the first one's does, which makes the result."""
        if row.status == Job.Status.QUEUED:
            return row.port > 0
        return row.finished and row.status != Job.Status.SUCCEEDED

    def _why(self, rows: list[TrainingJoin]) -> JobFailed | JobInterrupted:
        for row in rows:
            if row.finished and row.error_code not in CUT_OFF:
                return JobFailed(f"On {row.worker}: {row.error}", code=row.error_code)
        names = ", ".join(row.worker or "nobody" for row in rows)
        job = self._job
        if job.attempts >= job.max_attempts:
            return JobFailed(
                f"Another machine ({names}) was lost in each of {job.attempts} attempts. Look for "
                "a crash, a memory limit or a network that fails in its worker's log, then retry.",
                code="machine_lost",
            )
        return JobInterrupted(f"Another machine was lost ({names}).")

    def end(self) -> None:
        """The attempt is over: those that wait are cancelled, those that work end by themselves."""
        ended = Job.objects.filter(pk__in=self._asked)
        # The training's own end says it all.
        end = Job.ending() | {"unannounced": False}
        self._rows.update(over=True)
        ended.filter(status=Job.Status.QUEUED).update(status=Job.Status.CANCELLED, **end)
        until = time.monotonic() + END_SECONDS
        while ended.filter(status=Job.Status.RUNNING).exists() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS / 4)
        # One that has been lost; if it hasn't, it sees that the row is no longer its own.
        error = "It did not end with its training's attempt."
        ended.filter(status=Job.Status.RUNNING).update(
            status=Job.Status.FAILED, error_code="worker_lost", error=error, **end
        )


def joins_clear() -> None:
    """Ends the rows whose attempt is over, which whoever made them could not do."""
    left = TrainingJoin.objects.due().exclude(pk__in=TrainingJoin.objects.current())
    pks = list(left.values_list("pk", flat=True))
    if pks:
        Job.objects.filter(pk__in=pks, status=Job.Status.QUEUED).update(
            status=Job.Status.CANCELLED, **Job.ending() | {"unannounced": False}
        )
