"""`manage.py dataset_import FILE --name NAME`: a dataset taken in, without web, broker or login."""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from finetune.dataset_import import version_make
from finetune.management.commands.dataset_validate import (
    add_intake_arguments,
    intake_options,
    progress_bar,
    shown_on,
    source_of,
)
from finetune.models import DatasetVersion
from finetune.reading import Source
from finetune.report_text import report_lines
from finetune.services.datasets import dataset_forget_empty, dataset_named
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, JobFailed
from mlops.models import User


class Command(BaseCommand):
    help = (
        "Takes in a file, zip or folder as the next version of a dataset, and shows its report. "
        "Exit status: 0 it can be trained on, 1 it is kept but can't be, 2 nothing was taken in."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_intake_arguments(parser)
        parser.add_argument("--name", required=True, help="of the dataset; a new one, or its next")
        parser.add_argument("--owner", default="", metavar="USERNAME", help="default: nobody")
        parser.add_argument("--description", default="")
        parser.add_argument("--licence", default="")
        parser.add_argument(
            "--seed", type=int, help="of the split; default: that of the version before"
        )
        parser.add_argument("--json", action="store_true", help="end with one line of figures")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        version = self._version(options)
        if options["json"]:
            self.stdout.write(json.dumps(_figures(version), ensure_ascii=False))
        else:
            for line in report_lines(version.report, ready=version.ready):
                self.stdout.write(line)
            self.stdout.write(f"Kept as {version} ({version.sha256[:12]}).")
        self.stdout.flush()
        if not version.ready:
            sys.exit(1)

    def _version(self, options: dict[str, Any]) -> DatasetVersion:
        try:
            source = source_of(options["file"])
            owner = User.objects.get(username=options["owner"]) if options["owner"] else None
            return self._made(source, owner, options)
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['owner']}.", returncode=2) from error
        except (ApplicationError, JobFailed, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped. Nothing was kept.", returncode=130) from None

    def _made(self, source: Source, owner: User | None, options: dict[str, Any]) -> DatasetVersion:
        dataset = dataset_named(
            owner=owner, name=options["name"], description=options["description"]
        )
        last = dataset.versions.order_by("-number").first()
        seed = options["seed"]
        if seed is None:
            seed = last.seed if last else 0
        try:
            with progress_bar() as bar, tempfile.TemporaryDirectory() as folder:
                return version_make(
                    dataset=dataset,
                    source=source,
                    source_name=Path(options["file"]).name,
                    options=intake_options(options, seed=seed),
                    folder=Path(folder),
                    drop_bad_rows=options["drop_bad_rows"],
                    dropped_by=owner,
                    licence=options["licence"],
                    tick=shown_on(bar),
                )
        finally:
            dataset_forget_empty(dataset=dataset)


def _figures(version: DatasetVersion) -> dict[str, Any]:
    return {
        "dataset": str(version.dataset_id),
        "name": version.dataset.name,
        "version": version.number,
        "state": version.state,
        "sha256": version.sha256,
        "rows": version.rows,
        "rows_bad": version.rows_bad,
        "tokens": version.tokens,
        "splits": version.split_counts,
    }
