"""`manage.py finetune_merge VERSION`: an adapter and its base as one whole model."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError

from finetune.evaluation.sides import side_named
from finetune.local_run import run_here
from finetune.models import ModelVersion, VersionMerge
from finetune.services.merges import version_merge
from finetune.tasks import merge
from llm.sources import local_path
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError


class Command(BaseCommand):
    help = (
        "Merges an adapter (name@number) into its base, compares both on fixed prompts, and keeps "
        "the whole model as a version that can be called and trained on. "
        "Exit status: 0 it is fit, 1 it failed or is unfit, 2 bad arguments, 130 it was stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("version", metavar="VERSION", help="name@number, or its id")
        parser.add_argument("--name", default="", help="of the new version; default: the same")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help="its files, as safetensors with tokenizer, too"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        out: Path | None = options["out"]
        if out is not None and out.exists() and any(out.iterdir()):
            raise CommandError(f"{out} isn't empty.", returncode=2)
        self._shown = ""
        try:
            version = side_named(options["version"], user=None, position=0).version
            if version is None:
                raise CommandError(
                    f"'{options['version']}' is no version that training has made.", returncode=2
                )
            job = version_merge(
                owner=None,
                version=version,
                name=options["name"],
                device=options["device"],
                enqueue=False,
            )
        except ApplicationError as error:
            raise CommandError(error.message, returncode=2) from error
        job = run_here(job, lambda: merge(str(job.pk))["status"], show=self._show)
        made = self._made(job)
        if out is not None:
            # As engines load it: what lies elsewhere in MLflow's form stands beside the weights.
            shutil.copytree(local_path(made.source), out, dirs_exist_ok=True)
        self._report(made)

    def _show(self, job: VersionMerge) -> None:
        if job.phase != self._shown:
            self._shown = job.phase
            self.stderr.write(f"{job.get_phase_display()} ...")

    def _made(self, job: VersionMerge) -> ModelVersion:
        if job.status == job.Status.CANCELLED:
            self.stderr.write(f"Stopped. Job {job.pk}; a retry begins anew.")
            sys.exit(130)
        if job.status != job.Status.SUCCEEDED or job.result is None:
            raise CommandError(f"{job.error} (job {job.pk})", returncode=1)
        return job.result

    def _report(self, made: ModelVersion) -> None:
        served = made.parity["served"]["max_difference"]
        self.stdout.write(
            f"{made} of {made.merged_from}: {made.get_fitness_display()}, "
            f"{made.bytes / 1e6:,.1f} MB; log-probabilities differ by {served:.1e} at most"
        )
        if made.fitness != ModelVersion.Fitness.FIT:
            self.stderr.write("It is kept, and not made callable: see its parity check.")
            sys.exit(1)
        self.stdout.write(f"It can be called as '{made.language_model}', and trained on.")
