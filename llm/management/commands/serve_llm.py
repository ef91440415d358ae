"""`manage.py serve_llm`: a language model behind OpenAI's API, for other machines and programs."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from llm.engines.base import AdapterSource, ModelSource
from llm.serving.app import make_app
from llm.serving.desk import Desk, Plan
from llm.sources import local_path
from mlops import engines
from mlops.exceptions import ApplicationError, EngineUnavailable
from mlops.serving.arguments import access_token, add_arguments
from mlops.serving.server import serve


def named_path(text: str) -> tuple[str, str]:
    """`name=folder`, or a folder (a hub's name) whose last part is the name."""
    name, equals, path = text.partition("=")
    if not equals:
        return Path(text).name, text
    if not name or not path:
        raise ArgumentTypeError(f"'{text}' is not of the form name=folder")
    return name, path


def option(text: str) -> tuple[str, Any]:
    """`key=value`; the value is JSON, or text where it is none."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"'{text}' is not of the form key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


class Command(BaseCommand):
    help = (
        "Serves a language model: /v1/chat/completions, /v1/completions, /v1/embeddings, "
        "/v1/models, /health, /metrics. No database, no broker. Platforms use it through their "
        "engine 'openai'."
    )
    # The server has no rows: it must start where there is no database.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="a folder, a hub's name, or models:/name@alias of MLflow")
        add_arguments(parser, port=8002)
        parser.add_argument("--name", help="what requests call it (the last part of MODEL)")
        parser.add_argument(
            "--adapter",
            type=named_path,
            action="append",
            default=[],
            metavar="NAME=FOLDER",
            help="a LoRA adapter on the model, called by its name; may be given again",
        )
        parser.add_argument(
            "--embedding",
            type=named_path,
            metavar="[NAME=]FOLDER",
            help="a model that makes embeddings, served beside it",
        )
        parser.add_argument(
            "--engine", default="transformers", help="as in ENGINES['llm'] (%(default)s)"
        )
        parser.add_argument(
            "--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"]
        )
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, map")
        parser.add_argument("--quantization", default="", choices=["", "int8", "int4"])
        parser.add_argument(
            "--context-length", type=int, default=0, help="tokens; 0: the model's own"
        )
        parser.add_argument(
            "--chat-template", type=Path, help="a file with Jinja, in place of the tokenizer's own"
        )
        parser.add_argument(
            "--option",
            type=option,
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="of the engine, for this model; may be given again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        token = access_token(options)
        try:
            desk = Desk(self._plan(options))
            serve(
                make_app(desk, token=token),
                desk,
                host=options["host"],
                port=options["port"],
                stop_seconds=options["stop_seconds"],
            )
        except (ApplicationError, EngineUnavailable) as error:
            raise CommandError(error.message) from error

    def _plan(self, options: dict[str, Any]) -> Plan:
        settings = {"device": options["device"], "dtype": options["dtype"]}
        template: Path | None = options["chat_template"]
        plan = Plan(
            engine=engines.spec("llm", options["engine"]),
            model=ModelSource(
                name=options["name"] or Path(options["model"]).name,
                path=local_path(options["model"]),
                quantization=options["quantization"],
                context_length=options["context_length"],
                chat_template=template.read_text() if template else "",
                options=dict(options["option"]),
                **settings,
            ),
            adapters=tuple(
                AdapterSource(name, local_path(path)) for name, path in options["adapter"]
            ),
            embedding=self._embedding(options["embedding"], settings),
            queue=options["queue"],
        )
        names = list(_names(plan))
        if twice := {name for name in names if names.count(name) > 1}:
            raise CommandError(
                f"Several are called {', '.join(twice)}: give them names of their own.",
                returncode=2,
            )
        return plan

    def _embedding(
        self, named: tuple[str, str] | None, settings: dict[str, Any]
    ) -> ModelSource | None:
        if named is None:
            return None
        name, path = named
        return ModelSource(name=name, path=local_path(path), **settings)


def _names(plan: Plan) -> Iterator[str]:
    yield plan.model.name
    yield from (adapter.name for adapter in plan.adapters)
    if plan.embedding is not None:
        yield plan.embedding.name
