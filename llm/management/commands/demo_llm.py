"""`manage.py demo_llm`: a model trained on the spot, served, and asked by OpenAI's own client."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django.core.management.base import OutputWrapper

from llm.models import LanguageModel
from llm.services.models import model_save
from mlops.bootstrap import ensure_schema, first_user

NAME = "demo"
START_SECONDS = 120
REQUIREMENTS = "pip install -r requirements/demo-llm.txt -r requirements/torch.txt"
# Of each kind of question the model was taught one, with values that it has not seen together.
KINDS = ("fact", "reversal", "counting", "record")
UNSEEN = 1


class Command(BaseCommand):
    help = (
        "Trains a tiny language model, serves it through web, broker and worker, and streams "
        "answers through the openai package. Exit status 0 only if they came out right. The "
        "second time the model is there already."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, default=settings.DATA_DIR / "demo-llm")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The demo is for the embedded setting; ENVIRONMENT is production.")
        openai, tiny = _library("openai"), _library("llm.tiny")
        ensure_schema()
        credentials = first_user()
        folder: Path = options["folder"].resolve()
        self._train(tiny, folder / "model")
        self._register(folder / "model")
        lessons = tiny.lessons(UNSEEN)
        asked = [next(one for one in lessons if one.kind == kind) for kind in KINDS]
        with platform(folder / "platform.log") as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=credentials.api_key)
            with client:
                wrong = [one.question for one in asked if not ask(client, one, self.stdout)]
        self.stdout.write(
            f"\n  Model      {folder / 'model'}, called '{NAME}'\n"
            f"  Serve it   make run, then base_url http://127.0.0.1:8010/v1 "
            f"(API key in {credentials.path})\n"
        )
        if wrong:
            raise CommandError(f"Answers did not come out right: {' '.join(wrong)}")

    def _train(self, tiny: Any, folder: Path) -> None:
        if folder.is_dir():
            return
        self.stdout.write("  Training a Llama of a million weights; this takes about a minute.")
        unfinished = folder.with_name("unfinished")
        tiny.trained_model(unfinished, log=lambda line: self.stdout.write(f"    {line}"))
        unfinished.rename(folder)

    def _register(self, folder: Path) -> None:
        model = LanguageModel.objects.filter(name=NAME).first() or LanguageModel(name=NAME)
        model_save(model=model, source=str(folder), dtype="float32", enabled=True, warm=False)


def ask(client: Any, lesson: Any, out: OutputWrapper) -> bool:
    """Prints the answer as it comes; whether it is the lesson's."""
    out.write(f"\n  {lesson.question}\n  > ", ending="")
    text, started, first = "", time.perf_counter(), 0.0
    chunks = client.chat.completions.create(
        model=NAME,
        messages=lesson.messages[:1],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    usage = None
    for chunk in chunks:
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            first = first or time.perf_counter()
            text += piece
            out.write(piece, ending="")
            out.flush()
        usage = chunk.usage or usage
    seconds = time.perf_counter() - started
    out.write(
        f"\n    {usage.prompt_tokens} tokens read, {usage.completion_tokens} written, "
        f"{seconds:.2f} s, the first after {(first or started) - started:.2f}"
    )
    return text.strip() == lesson.answer


def _library(name: str) -> Any:
    """Raises CommandError saying how it is installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise CommandError(
            f"The demo needs {error.name}. Run make demo-llm, or: {REQUIREMENTS}"
        ) from error


@contextmanager
def platform(log: Path) -> Iterator[str]:
    """Web and workers for as long as the block lasts, as `make run` starts them; their URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "manage.py", "run", "--port", str(port), "--queues", "default,llm"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "READY_QUEUES": "llm"},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{url}/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError(f"The platform did not start; its log is {log}.")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
