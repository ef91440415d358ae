"""`manage.py doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management import BaseCommand

from mlops import doctor


class Command(BaseCommand):
    help = (
        "Looks at settings, database, migrations, workers, clock, broker, storage, MLflow, GPU and "
        "folders, from wherever it is run. Exits with 1 if something has failed."
    )
    # The checks are among what it reports, and it must start where they fail.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(doctor.findings())
        if options["json"]:
            self.stdout.write(json.dumps([asdict(one) for one in found], indent=2))
        else:
            self.stdout.write(
                doctor.table(found, width=shutil.get_terminal_size((160, 24)).columns)
            )
        if any(one.status is doctor.Status.FAILED for one in found):
            sys.exit(1)
