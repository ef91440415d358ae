"""What the commands of all model servers take."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import CommandError

from mlops.serving.access import is_loopback


def add_arguments(parser: ArgumentParser, *, port: int) -> None:
    """Where to listen, how many requests to hold, how long to take over the end."""
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument(
        "--insecure", action="store_true", help="serve other machines without MODEL_SERVER_TOKEN"
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=settings.MODEL_SERVER_QUEUE,
        help="requests held at once; more are answered 503 (%(default)s)",
    )
    parser.add_argument(
        "--stop-seconds",
        type=float,
        default=30,
        help="for finishing what was taken, once told to stop (%(default)s)",
    )


def access_token(options: dict[str, Any]) -> str:
    """The token that clients must send. Raises CommandError where it has to be one and is none."""
    token = settings.MODEL_SERVER_TOKEN
    if not (token or options["insecure"] or is_loopback(options["host"])):
        raise CommandError(
            f"Anyone who reaches {options['host']} could use this server. Set "
            "MODEL_SERVER_TOKEN to a secret that clients send, or say --insecure.",
            returncode=2,
        )
    return token
