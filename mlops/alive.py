"""A worker's sign of life as a file, for health checks that must cost nothing."""

from __future__ import annotations

from pathlib import Path

from celery import signals
from django.conf import settings


def sign(queues: list[str]) -> None:
    """Touches ALIVE_FILE, where one is named; called in each round of a worker's maintenance.

    The rounds end with a worker that is lost or deaf, and the file grows old.
    """
    if settings.ALIVE_FILE:
        Path(settings.ALIVE_FILE).touch()


def sign_for_the_scheduler() -> None:
    """The same in the scheduler, which has no such rounds: now, and with each message it sends."""
    sign([])
    signals.after_task_publish.connect(lambda **_: sign([]), weak=False)
