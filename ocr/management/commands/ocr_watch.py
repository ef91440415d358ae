"""`manage.py ocr_watch FOLDER --out DIR`: reads what is put into a folder or a storage prefix."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management import BaseCommand, CommandError

from mlops import selectors
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError
from mlops.models import User
from ocr import exports
from ocr.job_rows import read_options
from ocr.models import OcrJob
from ocr.places import place
from ocr.watching import Watcher, WatchOptions


def formats(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [form for form in chosen if form not in exports.FORMATS]
    if unknown or not chosen:
        raise ArgumentTypeError(
            f"unknown format {', '.join(unknown) or '(none)'}; "
            f"choose from {', '.join(exports.FORMATS)}"
        )
    return chosen


class Command(BaseCommand):
    help = (
        "Watches a folder, or storage:PREFIX of the documents' storage, and has workers read what "
        "comes: results go to --out, reasons of failures to failed/ there. Ends on Ctrl-C; what "
        "it has done it knows after a restart."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("place", metavar="FOLDER|storage:PREFIX")
        parser.add_argument("--out", required=True, metavar="FOLDER|storage:PREFIX")
        parser.add_argument("--formats", type=formats, default=("txt",), help="txt,json,…")
        parser.add_argument("--engine", default="auto", help="auto, or an engine's alias")
        parser.add_argument("--language", default="auto", help="auto, or codes joined by +")
        parser.add_argument("--done", metavar="FOLDER|storage:PREFIX", help="read files go here")
        parser.add_argument("--owner", default="", metavar="USER", help="whose the documents are")
        parser.add_argument("--interval", type=float, default=2.0, help="seconds between two looks")
        parser.add_argument(
            "--settle",
            type=float,
            default=2.0,
            help="seconds without a change before it counts",
        )
        parser.add_argument("--once", action="store_true", help="read what is there, then end")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        watcher = self._watcher(options)
        stopping = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: stopping.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._watch(watcher, stopping, options)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        counts = watcher.counts
        self.stderr.write(
            f"{counts.taken} files taken up, {counts.done} read, {counts.failed} failed, "
            f"{watcher.waiting()} under way -> {options['out']}"
        )
        if options["once"] and counts.failed:
            raise CommandError("Some files failed; see failed/ in the output.", returncode=1)

    def _watch(self, watcher: Watcher, stopping: threading.Event, options: dict[str, Any]) -> None:
        if not selectors.queues_seen([OcrJob.QUEUE]):
            self.stderr.write("No worker has been seen lately: start one (manage.py run).")
        while not stopping.is_set():
            unsettled = watcher.look()
            watcher.finish()
            if options["once"] and not unsettled and not watcher.waiting():
                break
            # Files under way end between two looks, too.
            pause = min(options["interval"], 0.2) if watcher.waiting() else options["interval"]
            stopping.wait(pause)

    def _watcher(self, options: dict[str, Any]) -> Watcher:
        owner = None
        if options["owner"]:
            owner = User.objects.filter(username=options["owner"]).first()
            if owner is None:
                raise CommandError(f"There is no user '{options['owner']}'.", returncode=2)
        watch_options = WatchOptions(
            formats=options["formats"],
            engine=options["engine"],
            language=options["language"],
            settle=options["settle"],
        )
        self._check(options)
        done = place(options["done"]) if options["done"] else None
        return Watcher(
            place(options["place"]), place(options["out"]), watch_options, done=done, owner=owner
        )

    def _check(self, options: dict[str, Any]) -> None:
        """What no file could be read with is said before the first one comes."""
        try:
            read_options(
                engine=options["engine"],
                language=options["language"],
                min_confidence=None,
                dpi=None,
                page_range="",
                text_layer=OcrJob.TextLayer.USE,
                rotate=True,
                force=False,
            )
        except ApplicationError as error:
            raise CommandError(error.message, returncode=2) from error
        source = place(options["place"]).name.rstrip("/") + "/"
        for name in ("out", "done"):
            if options[name] and f"{place(options[name]).name}/".startswith(source):
                raise CommandError(
                    f"--{name} lies in the watched place: its files would be read again.",
                    returncode=2,
                )
