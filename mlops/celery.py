"""The Celery application: `celery -A mlops worker -Q ocr -P threads -c 1`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, bootsteps, signals
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")

app = Celery("mlops")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)


class TakeNextSoon(bootsteps.StartStopStep):
    """Wakes the worker's event loop ten times a second, so that it sees that a thread is free.

    With `worker_disable_prefetch` a busy worker asks Redis for nothing, and a job that ends in a
    thread wakes nobody: without this the next message waits for some timer, up to 10 s.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    seconds = 0.1

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        # Anew at each reconnect: the loop's timers don't outlive a connection.
        if consumer.hub is not None and app.conf.worker_disable_prefetch:
            self._timer = consumer.hub.call_repeatedly(self.seconds, lambda: None)

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()


app.steps["consumer"].add(TakeNextSoon)


@signals.setup_logging.connect
def use_django_logging(**_: Any) -> None:
    """Django has set logging up already; Celery must not put its own on top."""


@signals.worker_init.connect
def check_settings(**_: Any) -> None:
    """A worker refuses to start on settings that `manage.py check` refuses."""
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError

    try:
        call_command("check")
    except SystemCheckError as error:
        # Celery logs what a receiver raises and goes on; only this ends the process.
        raise SystemExit(str(error)) from error


@signals.worker_ready.connect
def start_maintenance(sender: Any, **_: Any) -> None:
    from mlops.maintenance import Maintenance

    queues = [queue.name for queue in sender.task_consumer.queues]
    sender.app.maintenance = Maintenance(worker=sender.hostname, queues=queues)
    sender.app.maintenance.start()


@signals.worker_shutting_down.connect
def stop_maintenance(**_: Any) -> None:
    maintenance = getattr(app, "maintenance", None)
    if maintenance is not None:
        maintenance.stop()


@signals.worker_init.connect
@signals.worker_process_init.connect
def preload_engines(sender: Any = None, **_: Any) -> None:
    """Loads the engines that ENGINES_PRELOAD names before the first message is taken.

    A prefork worker's parent runs no jobs: there each child loads its own.
    """
    from mlops import engines

    if "prefork" not in str(getattr(sender, "pool_cls", "")):
        engines.preload()
