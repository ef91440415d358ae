"""What keeps the platform going without anyone's help, done by every worker and by the scheduler.

In each round: jobs of lost workers are queued again, vanished messages are sent again, ends that
nobody has told of are told, the queues get a sign of life, and ended jobs are logged to MLflow;
then come the steps of settings.MAINTENANCE_STEPS.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils.module_loading import import_string

from mlops import endings, flush, idempotency, jobs, queues, reconcile, selectors

log = structlog.get_logger(__name__)


def round_once() -> None:
    """One round; a step whose database or broker is away is left for the next round."""
    for step in (
        reconcile.jobs_reap,
        reconcile.jobs_resend,
        endings.endings_announce,
        endings.followers_repair,
        endings.parents_repair,
        idempotency.keys_expire,
        flush.jobs_track,
        *(import_string(path) for path in settings.MAINTENANCE_STEPS),
    ):
        _attempt(step)


def _attempt(step: Callable[..., object], *arguments: object) -> bool:
    try:
        close_old_connections()
        step(*arguments)
    except (DatabaseError, *queues.BROKER_ERRORS) as error:
        log.warning("maintenance_postponed", step=step.__name__, error=str(error))
        return False
    except Exception:
        # A fault in one step must not end the thread that reaps lost jobs.
        log.exception("maintenance_failed", step=step.__name__)
        return False
    return True


class Maintenance(threading.Thread):
    """The round as a thread of a worker, from its start to its end.

    `queues`: those the worker consumes. A worker that is connected but hears nothing (seen after
    broker restarts) ends itself, so that whatever supervises it starts a fresh one.
    """

    def __init__(self, *, worker: str, queues: list[str]) -> None:
        super().__init__(name="maintenance", daemon=True)
        self.worker, self.queues = worker, queues
        self._stop_asked = threading.Event()
        self._heard = time.monotonic()
        self._pulsed = -math.inf

    def run(self) -> None:
        while True:
            round_once()
            for path in settings.WORKER_STEPS:
                _attempt(import_string(path), self.queues)
            self._pulse()
            if self._stop_asked.wait(settings.MAINTENANCE_SECONDS):
                break
        connection.close()

    def stop(self) -> None:
        jobs.stopping.set()
        self._stop_asked.set()

    def _pulse(self) -> None:
        now = time.monotonic()
        if now - self._pulsed < settings.QUEUE_SEEN_SECONDS / 4:
            return
        self._pulsed = now
        if not _attempt(self._pulse_and_listen):
            # Without broker or database nobody can hear anything.
            self._heard = now
        deaf_after = 3 * settings.QUEUE_SEEN_SECONDS
        if now - self._heard > deaf_after:
            log.critical("worker_deaf", worker=self.worker, seconds=deaf_after)
            os.kill(os.getpid(), signal.SIGTERM)

    def _pulse_and_listen(self) -> None:
        reconcile.pulses_send(names=self.queues)
        if selectors.queues_seen(self.queues):
            self._heard = time.monotonic()
