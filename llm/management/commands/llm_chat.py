"""`manage.py llm_chat --model M`: a conversation in the terminal."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from django.core.management import BaseCommand, CommandError

from llm.conversation import Conversation, LocalSpeaker, RemoteSpeaker, Said
from llm.local import load_model
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, EngineUnavailable

KEY = "OPENAI_API_KEY"
HELP = "/reset begins anew, /exit ends; Ctrl-C stops an answer."


class Command(BaseCommand):
    help = (
        "Talks with a model: in this process, or with --url on a server with OpenAI's API, whose "
        f"key is in {KEY}. {HELP}"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--model", required=True, help="a model's name here, a folder, or a hub's name"
        )
        parser.add_argument("--url", default="", help="of a server: http://localhost:8010/v1")
        parser.add_argument("--system", default="", help="the system message")
        parser.add_argument("--max-tokens", type=int)
        parser.add_argument("--temperature", type=float)
        parser.add_argument("--top-p", type=float)
        parser.add_argument("--seed", type=int)
        parser.add_argument(
            "--engine", default="transformers", help="for a model that isn't registered here"
        )
        parser.add_argument("--dtype", default="auto", help="the same")
        parser.add_argument("--device", default="auto", help="the same")

    def handle(self, *args: Any, **options: Any) -> None:
        names = ("max_tokens", "temperature", "top_p", "seed")
        given = {name: options[name] for name in names if options[name] is not None}
        with ExitStack() as stack:
            talk = Conversation(
                self._speaker(options, stack), options["model"], options["system"], given
            )
            self.stderr.write(HELP)
            for text in self._asked():
                if text == "/exit":
                    return
                if text == "/reset":
                    talk.reset()
                    self.stderr.write("A new conversation.")
                elif text.startswith("/"):
                    self.stderr.write(HELP)
                elif text:
                    self._answer(talk, text)

    def _speaker(self, options: dict[str, Any], stack: ExitStack) -> LocalSpeaker | RemoteSpeaker:
        if options["url"]:
            return RemoteSpeaker(options["url"], os.environ.get(KEY, ""))
        ensure_schema()
        try:
            local = load_model(
                options["model"],
                engine=options["engine"],
                dtype=options["dtype"],
                device=options["device"],
            )
        except (ApplicationError, EngineUnavailable) as error:
            raise CommandError(error.message, returncode=1) from error
        stack.callback(local.loaded.close)
        self.stderr.write(f"{local.name} on {local.loaded.device}")
        return LocalSpeaker(local)

    def _asked(self) -> Any:
        """The lines that are typed, or come through a pipe, until the end of the input."""
        terminal = sys.stdin.isatty()
        while True:
            if terminal:
                self.stdout.write("> ", ending="")
                self.stdout.flush()
            try:
                line = sys.stdin.readline()
            except KeyboardInterrupt:
                return
            if not line:
                return
            yield line.strip()

    def _answer(self, talk: Conversation, text: str) -> None:
        try:
            said = talk.say(text, self._told)
        except KeyboardInterrupt:
            self.stdout.write("")
            self.stderr.write("Stopped; this message is forgotten.")
        except ApplicationError as error:
            self.stdout.write("")
            self.stderr.write(self.style.ERROR(error.message))
        else:
            self.stdout.write("")
            self.stderr.write(_figures(said))

    def _told(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()


def _figures(said: Said) -> str:
    writing = said.seconds - said.first
    rate = (said.completion_tokens - 1) / writing if writing > 0 else 0.0
    return (
        f"[{said.prompt_tokens} + {said.completion_tokens} tokens, first after "
        f"{said.first * 1000:,.0f} ms, {rate:,.1f} tokens/s]"
    )
