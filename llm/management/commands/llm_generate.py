"""`manage.py llm_generate --model M --input FILE --out FILE`: answers to a file of prompts."""

from __future__ import annotations

import json
import sys
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from llm.batch.answers_file import AnswersFile
from llm.batch.calls import Call
from llm.batch.prompts import Defaults, Prompt, read_prompts
from llm.batch.results import record
from llm.batch.window import Outcome, Window, failed
from llm.local import LocalModel, load_model
from llm.openai.requests import check_schema
from mlops import tracking
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.tracking import RunRecord, TrackingUnavailable

RETRY_SECONDS = 2.0


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: give a whole number from 1")
    return int(text)


@dataclass(slots=True)
class Totals:
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, outcome: Outcome) -> None:
        self.answered += outcome.ok
        self.failed += not outcome.ok
        self.prompt_tokens += outcome.usage.prompt
        self.completion_tokens += outcome.usage.completion


class Command(BaseCommand):
    help = (
        "Answers every line of a file with a model in this process: no web, no broker, no login. "
        "A line is a request of OpenAI's Batch API, an object with messages, prompt or input, or "
        "plain text. Run again it goes on where it was; order isn't kept, `index` tells it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model", required=True, help="a model's name here, a folder, or a hub's name"
        )
        parser.add_argument("--input", required=True, type=Path, metavar="FILE")
        parser.add_argument("--out", required=True, type=Path, metavar="FILE")
        parser.add_argument("--force", action="store_true", help="begin anew: drop what is there")
        parser.add_argument(
            "--chat", action="store_true", help="texts and prompts are a user's message"
        )
        parser.add_argument("--system", default="", help="the system message of --chat")
        parser.add_argument(
            "--schema", type=Path, metavar="FILE", help="a JSON Schema that every answer follows"
        )
        parser.add_argument("--max-tokens", type=count)
        parser.add_argument("--temperature", type=float)
        parser.add_argument("--top-p", type=float)
        parser.add_argument("--seed", type=int)
        parser.add_argument("--stop", action="append", help="may be given several times")
        parser.add_argument("--window", type=count, default=64, help="requests in flight (64)")
        parser.add_argument(
            "--engine", default="transformers", help="for a model that isn't registered here"
        )
        parser.add_argument("--dtype", default="auto", help="the same")
        parser.add_argument("--device", default="auto", help="the same")
        parser.add_argument("--no-mlflow", action="store_true", help="log no run")
        parser.add_argument("--json", action="store_true", help="end with one line of figures")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["input"].is_file():
            raise CommandError(f"{options['input']} is no file.", returncode=2)
        defaults = self._defaults(options)
        ensure_schema()
        totals = Totals()
        started = time.time()
        try:
            local = load_model(
                options["model"],
                engine=options["engine"],
                dtype=options["dtype"],
                device=options["device"],
            )
        except (ApplicationError, EngineUnavailable) as error:
            raise CommandError(error.message, returncode=1) from error
        begun = time.time()
        try:
            with AnswersFile(options["out"], anew=options["force"]) as out:
                self._answer(local, defaults, options, out, totals)
        except (ApplicationError, EngineUnavailable) as error:
            raise CommandError(error.message, returncode=1) from error
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. What is answered is kept; the same command goes on from there.",
                returncode=130,
            ) from None
        finally:
            local.loaded.close()
        seconds = time.time() - begun
        if not options["no_mlflow"]:
            self._track(local, totals, options, started=started, seconds=seconds)
        self._report(totals, seconds, options)

    def _defaults(self, options: dict[str, Any]) -> Defaults:
        names = ("max_tokens", "temperature", "top_p", "seed", "stop")
        given = {name: options[name] for name in names if options[name] is not None}
        if options["schema"] is not None:
            try:
                schema = json.loads(options["schema"].read_text())
                check_schema(schema, str(options["schema"]))
            except (OSError, ValueError, ApplicationError) as error:
                raise CommandError(f"--schema: {error}", returncode=2) from error
            wanted = {"name": "answer", "schema": schema}
            given["response_format"] = {"type": "json_schema", "json_schema": wanted}
        chat = options["chat"] or bool(options["system"])
        return Defaults(options["model"], chat=chat, system=options["system"], options=given)

    def _answer(
        self,
        local: LocalModel,
        defaults: Defaults,
        options: dict[str, Any],
        out: AnswersFile,
        totals: Totals,
    ) -> None:
        ids: dict[int, str] = {}
        refused: list[Outcome] = []
        window = Window(
            local.loaded, size=options["window"], pause=RETRY_SECONDS, adapter=local.adapter
        )
        prompts = self._open_prompts(options["input"], out, totals)
        with tqdm(
            total=sum(1 for _prompt in read_prompts(options["input"])),
            unit="request",
            disable=None,
            file=sys.stderr,
            dynamic_ncols=True,
        ) as bar:
            begun = time.monotonic()
            for outcomes in window.answers(_calls(prompts, defaults, ids, refused)):
                for outcome in [*refused, *outcomes]:
                    totals.add(outcome)
                    out.add(_line(outcome, ids.pop(outcome.key)))
                refused.clear()
                rate = totals.completion_tokens / max(0.001, time.monotonic() - begun)
                bar.set_postfix_str(f"{rate:,.0f} tokens/s, {totals.failed} failed", refresh=False)
                bar.update(totals.answered + totals.failed + totals.skipped - bar.n)
            for outcome in refused:
                totals.add(outcome)
                out.add(_line(outcome, ids.pop(outcome.key)))

    def _open_prompts(self, path: Path, out: AnswersFile, totals: Totals) -> Iterator[Prompt]:
        for prompt in read_prompts(path):
            if prompt.custom_id in out.done:
                totals.skipped += 1
                continue
            yield prompt

    def _track(
        self,
        local: LocalModel,
        totals: Totals,
        options: dict[str, Any],
        *,
        started: float,
        seconds: float,
    ) -> None:
        """Last: it must neither slow the work down nor fail it."""
        rate = totals.completion_tokens / seconds if seconds else 0.0
        names = ("max_tokens", "temperature", "top_p", "seed", "window")
        run = RunRecord(
            name=f"generate {local.name}"[:200],
            experiment="llm",
            succeeded=not totals.failed,
            started=started,
            finished=time.time(),
            params={
                "model": local.name,
                "device": local.loaded.device,
                "input": options["input"].name,
                **{name: options[name] for name in names if options[name] is not None},
            },
            metrics={
                "completed": totals.answered,
                "failed": totals.failed,
                "prompt_tokens": totals.prompt_tokens,
                "completion_tokens": totals.completion_tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(rate, 3),
            },
        )
        try:
            tracking.tracker().log(run)
        except TrackingUnavailable as error:
            self.stderr.write(f"No run was logged: {error}")

    def _report(self, totals: Totals, seconds: float, options: dict[str, Any]) -> None:
        rate = totals.completion_tokens / seconds if seconds else 0.0
        self.stderr.write(
            f"{totals.answered} answered ({totals.skipped} already done, {totals.failed} failed), "
            f"{totals.completion_tokens:,} tokens in {seconds:.1f} s, {rate:,.1f} tokens/s "
            f"-> {options['out']}"
        )
        if options["json"]:
            figures = {
                "answered": totals.answered,
                "skipped": totals.skipped,
                "failed": totals.failed,
                "prompt_tokens": totals.prompt_tokens,
                "completion_tokens": totals.completion_tokens,
                "seconds": round(seconds, 3),
                "tokens_per_second": round(rate, 3),
            }
            self.stdout.write(json.dumps(figures))
        self.stdout.flush()
        if totals.failed:
            sys.exit(1)


def _calls(
    prompts: Iterator[Prompt], defaults: Defaults, ids: dict[int, str], refused: list[Outcome]
) -> Iterator[Call]:
    """The requests; lines that are none go to `refused` and hold up nothing."""
    seen: set[str] = set()
    for prompt in prompts:
        ids[prompt.index] = prompt.custom_id
        try:
            if prompt.custom_id in seen:
                raise ApplicationError(
                    f"Another line has the custom_id '{prompt.custom_id}', too.",
                    code="duplicate_custom_id",
                    param="custom_id",
                )
            seen.add(prompt.custom_id)
            yield prompt.call(defaults)
        except ApplicationError as error:
            refused.append(Outcome(prompt.index, error.status, failed(error)))


def _line(outcome: Outcome, custom_id: str) -> dict[str, Any]:
    return {
        "index": outcome.key,
        **record(
            custom_id,
            request_id=uuid.uuid4().hex,
            status=outcome.status,
            body=outcome.body,
        ),
    }
