"""`manage.py run`: web and worker together, for one machine."""

from __future__ import annotations

import os
import socket
import sys
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from mlops.bootstrap import ensure_schema, first_user
from mlops.supervisor import Program, Supervisor

LLM_QUEUE, TRAIN_QUEUE = "llm", "train"
# One trains, the others wait for its device or look at rows in dry runs.
TRAIN_THREADS = 3
# Its threads hold no connection while they wait for a model, so that it may be below their number.
LLM_POOL_SIZE = os.environ.get("DATABASE_POOL_SIZE", "16")
# Somebody waits for the first word. A look at the file broker takes a tenth of a millisecond.
LLM_POLL_SECONDS = os.environ.get("BROKER_POLL_SECONDS", "0.02")


class Command(BaseCommand):
    help = "Runs the web process and workers, restarts what dies, and stops all on Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8010)
        parser.add_argument("--threads", type=int, default=1, help="jobs at once in the worker")
        parser.add_argument(
            "--queues", default=",".join(settings.QUEUES), help="queues the workers consume"
        )
        parser.add_argument(
            "--llm-threads",
            type=int,
            default=32,
            help="requests to language models at once, in a worker of their own",
        )
        parser.add_argument("--no-web", action="store_true", help="the workers alone")
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
            queues = options["queues"].split(",")
            # Requests wait for one model together, and nothing waits behind a training of hours.
            others = [name for name in queues if name not in (LLM_QUEUE, TRAIN_QUEUE)]
            preload = os.environ.get("ENGINES_PRELOAD", f"ocr:{settings.OCR_DEFAULT_ENGINE}")
            if others:
                env = {"ENGINES_PRELOAD": preload if "ocr" in others else ""}
                programs.append(_worker("worker", others, options["threads"], env))
            if LLM_QUEUE in queues:
                env = {
                    "ENGINES_PRELOAD": "",
                    "DATABASE_POOL_SIZE": LLM_POOL_SIZE,
                    "BROKER_POLL_SECONDS": LLM_POLL_SECONDS,
                }
                programs.append(_worker("llm", [LLM_QUEUE], options["llm_threads"], env))
            if TRAIN_QUEUE in queues:
                # Told to stop, it lets the trainer save a checkpoint first.
                grace = settings.TRAINING_STOP_SECONDS + 10
                env = {"ENGINES_PRELOAD": ""}
                train = _worker("train", [TRAIN_QUEUE], TRAIN_THREADS, env)
                programs.append(replace(train, grace=grace))
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


def _worker(name: str, queues: list[str], threads: int, env: dict[str, str]) -> Program:
    command = [sys.executable, "-m", "celery", "-q", "-A", "mlops", "worker"]
    command += ["-Q", ",".join(queues), "-P", "threads", "-c", str(threads)]
    # A name of its own: several workers of one machine must not answer for each other.
    command += ["-n", f"{name}-{os.getpid()}@%h", "--without-mingle", "--without-gossip"]
    # Said of workers that accept pickle, which these don't.
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser"}
    return Program(name, command, env | quiet)
