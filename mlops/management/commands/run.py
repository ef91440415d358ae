"""`manage.py run`: web and worker together, for one machine."""

from __future__ import annotations

import os
import socket
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from mlops.bootstrap import ensure_schema, first_user
from mlops.supervisor import Program, Supervisor


class Command(BaseCommand):
    help = "Runs the web process and a worker, restarts what dies, and stops both on Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8010)
        parser.add_argument("--threads", type=int, default=1, help="jobs at once in the worker")
        parser.add_argument(
            "--queues", default=",".join(settings.QUEUES), help="queues the worker consumes"
        )
        parser.add_argument("--no-web", action="store_true", help="the worker alone")
        parser.add_argument("--no-worker", action="store_true", help="the web process alone")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["no_web"]:
            self._check_port(options["host"], options["port"])
        ensure_schema()
        if not settings.PRODUCTION:
            made = first_user()
            if not options["no_web"]:
                url = f"http://{options['host']}:{options['port']}"
                self.stdout.write(
                    f"\n  Console  {url}/admin/   (user {made.username}, password {made.password})"
                    f"\n  API      {url}/api/docs/"
                    f"\n  API key  {made.api_key}"
                    f"\n  (kept in {made.path})\n\n"
                )
                self.stdout.flush()
        Supervisor(list(self._programs(options))).run()

    def _programs(self, options: dict[str, Any]) -> list[Program]:
        programs = []
        if not options["no_web"]:
            programs.append(
                Program(
                    "web",
                    [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"],
                    {"BIND": f"{options['host']}:{options['port']}"},
                )
            )
        if not options["no_worker"]:
            worker = [sys.executable, "-m", "celery", "-q", "-A", "mlops", "worker"]
            worker += ["-Q", options["queues"], "-P", "threads", "-c", str(options["threads"])]
            # A name of its own: several workers of one machine must not answer for each other.
            worker += ["-n", f"worker-{os.getpid()}@%h", "--without-mingle", "--without-gossip"]
            preload = os.environ.get("ENGINES_PRELOAD", f"ocr:{settings.OCR_DEFAULT_ENGINE}")
            env = {
                "ENGINES_PRELOAD": preload if "ocr" in options["queues"] else "",
                # Said of workers that accept pickle, which these don't.
                "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
            }
            programs.append(Program("worker", worker, env))
        return programs

    def _check_port(self, host: str, port: int) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} on {host} can't be used ({error.strerror}). "
                    "Stop what uses it, or choose another: --port 8011"
                ) from error
