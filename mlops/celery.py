"""The Celery application: `celery -A mlops worker -Q ocr -P threads -c 1`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")

app = Celery("mlops")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)


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
