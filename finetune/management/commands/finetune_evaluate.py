"""`manage.py finetune_evaluate --dataset D@N MODEL …`: models side by side, in this process."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from finetune.content.facts import SPLITS
from finetune.evaluation.lines import result_lines
from finetune.evaluation.metrics import METRICS
from finetune.local_run import run_here
from finetune.models import Evaluation
from finetune.services.evaluations import evaluation_submit
from finetune.tasks import evaluate
from finetune.training_plan import version_named
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError
from mlops.models import User


def count(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text}: give a whole number")
    return int(text)


class Command(BaseCommand):
    help = (
        "Scores models on the same rows of a dataset and compares them, each figure with its 95 % "
        "interval. MODEL: a language model's name, a version (name@number), or ocr:engine. "
        "Exit status: 0 it succeeded, 1 it failed, 2 bad arguments, 130 it was stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("models", nargs="+", metavar="MODEL")
        parser.add_argument("--dataset", required=True, metavar="NAME[@N]")
        parser.add_argument("--split", default="test", choices=list(SPLITS))
        parser.add_argument(
            "--metrics", nargs="+", default=[], choices=list(METRICS), metavar="FIGURE"
        )
        parser.add_argument(
            "--rows", type=count, default=1000, metavar="N", help="at most; 0: all (1000)"
        )
        parser.add_argument("--max-tokens", type=count, default=256, help="of an answer (256)")
        parser.add_argument("--seed", type=count, default=0, help="of rows and intervals")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        parser.add_argument("--owner", default="", metavar="USERNAME", help="default: nobody")
        parser.add_argument("--json", type=Path, metavar="FILE", help="the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        try:
            owner = User.objects.get(username=options["owner"]) if options["owner"] else None
            version = version_named(options["dataset"], owner=owner)
            if version is None:
                raise CommandError(f"There is no dataset '{options['dataset']}'.", returncode=2)
            names = ("models", "split", "metrics", "rows", "max_tokens", "seed", "device")
            job = evaluation_submit(
                owner=owner,
                dataset_version=version,
                enqueue=False,
                **{name: options[name] for name in names},
            )
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['owner']}.", returncode=2) from error
        except ApplicationError as error:
            raise CommandError(error.message, returncode=2) from error
        with tqdm(
            unit="row", disable=None, file=sys.stderr, dynamic_ncols=True, leave=False
        ) as bar:
            job = run_here(
                job, lambda: evaluate(str(job.pk))["status"], show=lambda row: _show(bar, row)
            )
        self._report(job, options["json"])

    def _report(self, job: Evaluation, path: Path | None) -> None:
        if job.status == job.Status.CANCELLED:
            self.stderr.write(f"Stopped. Job {job.pk}; a retry goes on from there.")
            sys.exit(130)
        if job.status != job.Status.SUCCEEDED:
            raise CommandError(f"{job.error} (job {job.pk})", returncode=1)
        for line in result_lines(job):
            self.stdout.write(line)
        if job.mlflow_run_id:
            self.stdout.write(f"MLflow run {job.mlflow_run_id} {job.mlflow_run_url}".rstrip())
        if path is not None:
            whole = {
                "evaluation": str(job.pk),
                "dataset": job.dataset_label,
                "split": job.split,
                "options": job.options,
                **job.result,
            }
            text = json.dumps(whole, ensure_ascii=False, indent=1)
            path.write_text(f"{text}\n", encoding="utf-8")


def _show(bar: tqdm, job: Evaluation) -> None:
    bar.total = job.progress_total or None
    bar.update(job.progress_done - bar.n)
    bar.refresh()
