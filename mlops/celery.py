"""The Celery application: `celery -A mlops worker -Q ocr -P threads -c 1`."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from celery import Celery, bootsteps, signals
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")

app = Celery("mlops")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)


class TakeNextSoon(bootsteps.StartStopStep):
    """Wakes the worker's event loop when a task has ended, so that it sees that a thread is free.

    With `worker_disable_prefetch` a busy worker asks Redis for nothing, and a job that ends in a
    thread wakes nobody: without this the next message waits for some timer, up to 10 s.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)
    # A thread says that its task has ended just before it is counted as free.
    look_again = (0.002, 0.01, 0.03)
    seconds = 0.1

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._pipe: tuple[int, int] | None = None

    def start(self, consumer: Any) -> None:
        # Anew at each reconnect: the loop's timers and readers don't outlive a connection.
        if consumer.hub is None or not app.conf.worker_disable_prefetch:
            return
        self._timer = consumer.hub.call_repeatedly(self.seconds, lambda: None)
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        consumer.hub.add_reader(self._pipe[0], self._wake, consumer.hub)
        signals.task_postrun.connect(self._ended)

    def stop(self, consumer: Any) -> None:
        signals.task_postrun.disconnect(self._ended)
        if self._timer is not None:
            self._timer.cancel()
        if self._pipe is not None:
            consumer.hub.remove(self._pipe[0])
            pipe, self._pipe = self._pipe, None
            for end in pipe:
                os.close(end)

    def _wake(self, hub: Any) -> None:
        if self._pipe is not None:
            os.read(self._pipe[0], 1024)
            for seconds in self.look_again:
                hub.call_later(seconds, lambda: None)

    def _ended(self, **_: Any) -> None:
        """Called in the task's thread."""
        pipe = self._pipe
        if pipe is not None:
            # A full pipe has woken the loop already, and a closed one has no loop.
            with suppress(OSError):
                os.write(pipe[1], b".")


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
    from mlops.delivery import Deliverer
    from mlops.maintenance import Maintenance

    queues = [queue.name for queue in sender.task_consumer.queues]
    sender.app.maintenance = Maintenance(worker=sender.hostname, queues=queues)
    sender.app.maintenance.start()
    sender.app.deliverer = Deliverer()
    sender.app.deliverer.start()


@signals.beat_init.connect
def sign_for_the_scheduler(**_: Any) -> None:
    from mlops import alive

    alive.sign_for_the_scheduler()


@signals.worker_shutting_down.connect
def stop_maintenance(**_: Any) -> None:
    for name in ("maintenance", "deliverer"):
        thread = getattr(app, name, None)
        if thread is not None:
            thread.stop()


@signals.worker_init.connect
@signals.worker_process_init.connect
def preload_engines(sender: Any = None, **_: Any) -> None:
    """Loads the engines that ENGINES_PRELOAD names before the first message is taken.

    A prefork worker's parent runs no jobs: there each child loads its own.
    """
    from mlops import engines

    if "prefork" not in str(getattr(sender, "pool_cls", "")):
        engines.preload()
