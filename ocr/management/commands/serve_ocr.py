"""`manage.py serve_ocr`: OCR behind HTTP for other machines and programs."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from mlops import engines
from mlops.engines import EngineSpec
from mlops.exceptions import EngineUnavailable
from mlops.serving.arguments import access_token, add_arguments
from mlops.serving.server import serve
from ocr.formats import Limits
from ocr.serving.answers import Defaults
from ocr.serving.app import make_app
from ocr.serving.desk import Desk, DeskOptions
from ocr.serving.lanes import LaneOptions


class Command(BaseCommand):
    help = (
        "Serves OCR: POST /predict, GET /health, GET /metrics. No database, no broker. "
        "Other platforms use it as their engine 'remote' (OCR_MODEL_SERVER_URL)."
    )
    # The server has no rows: it must start where there is no database.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        cores = len(os.sched_getaffinity(0))
        add_arguments(parser, port=8001)
        parser.add_argument(
            "--engine",
            default=settings.OCR_DEFAULT_ENGINE,
            help="loaded at once, and what engine=auto means (%(default)s)",
        )
        parser.add_argument("--language", default="auto", help="where a request names none")
        parser.add_argument(
            "--lanes",
            type=int,
            default=min(cores, 8),
            help="calls of an engine at once (%(default)s)",
        )
        parser.add_argument(
            "--threads", type=int, default=None, help="of one call (the cores over the lanes)"
        )
        parser.add_argument(
            "--max-batch", type=int, default=4, help="pages in a call (%(default)s)"
        )
        parser.add_argument(
            "--max-wait-ms",
            type=float,
            default=5,
            help="how long a call waits for pages on their way (%(default)s)",
        )
        parser.add_argument(
            "--max-pages", type=int, default=50, help="of one document (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        token = access_token(options)
        desk = Desk(self._specs(options["engine"]), self._desk_options(options))
        try:
            serve(
                make_app(desk, token=token),
                desk,
                host=options["host"],
                port=options["port"],
                stop_seconds=options["stop_seconds"],
            )
        except EngineUnavailable as error:
            raise CommandError(error.message) from error

    def _specs(self, engine: str) -> dict[str, EngineSpec]:
        """All engines of this process but `remote`: a server that asks itself never answers."""
        specs = {
            alias: spec
            for alias, spec in engines.configured("ocr").items()
            if spec.backend_class().name != "remote"
        }
        if engine not in specs:
            raise CommandError(
                f"'{engine}' can't be served. Choose with --engine: {', '.join(specs)}.",
                returncode=2,
            )
        return specs

    def _desk_options(self, options: dict[str, Any]) -> DeskOptions:
        cores = len(os.sched_getaffinity(0))
        return DeskOptions(
            defaults=Defaults(
                engine=options["engine"],
                language=options["language"],
                min_confidence=settings.OCR_MIN_CONFIDENCE,
                dpi=settings.OCR_DPI,
            ),
            lanes=LaneOptions(
                count=options["lanes"],
                threads=options["threads"] or max(1, cores // options["lanes"]),
                max_batch=options["max_batch"],
                max_wait=options["max_wait_ms"] / 1000,
            ),
            limits=Limits(
                max_bytes=settings.MAX_UPLOAD_BYTES,
                max_pages=options["max_pages"],
                max_pixels=settings.OCR_MAX_PIXELS,
            ),
            queue=options["queue"],
        )
