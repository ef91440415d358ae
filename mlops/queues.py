"""What the broker knows: sending a job's message, and how many wait in a queue."""

from __future__ import annotations

import structlog
from amqp.exceptions import ChannelError
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from mlops.celery import app
from mlops.models import Job

log = structlog.get_logger(__name__)

BROKER_ERRORS = (OperationalError, OSError)


def send(job: Job, *, marked: bool = False) -> bool:
    """Puts the job's message on its queue; False if the broker is away.

    That is no error: the row stays queued, and `reconcile.jobs_resend` sends it later. `marked`:
    the row says already that it was sent.
    """
    if not marked:
        Job.objects.filter(pk=job.pk, status=Job.Status.QUEUED).update(sent_at=Now())
    try:
        app.send_task(
            job.kind,
            args=[str(job.pk)],
            task_id=str(job.pk),
            queue=job.queue,
            priority=job.priority,
            retry=False,
        )
    except BROKER_ERRORS as error:
        log.warning("job_not_sent", job_id=str(job.pk), queue=job.queue, error=str(error))
        return False
    return True


def hint(task: str, *args: str, queue: str, priority: int, expires: float) -> bool:
    """Sends a message that may be lost; False if the broker is away."""
    try:
        app.send_task(
            task,
            args=args,
            queue=queue,
            priority=priority,
            expires=expires,
            ignore_result=True,
            retry=False,
        )
    except BROKER_ERRORS as error:
        log.debug("hint_not_sent", task=task, queue=queue, error=str(error))
        return False
    return True


def depths(names: list[str]) -> dict[str, int]:
    """How many messages wait in each queue. Raises one of BROKER_ERRORS if it can't be asked."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=4)
        channel = connection.default_channel
        found = {}
        for name in names:
            try:
                found[name] = channel.queue_declare(name, passive=True).message_count
            except ChannelError:
                found[name] = 0
        return found
