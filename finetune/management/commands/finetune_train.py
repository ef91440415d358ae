"""`manage.py finetune_train CONFIG.yaml`: trains a model in this process, or leaves it to one."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from tqdm import tqdm

from finetune.dry_report_text import dry_report_lines
from finetune.local_run import follow, run_here
from finetune.models import TrainingJob
from finetune.services.training import training_job_submit
from finetune.tasks import train_job
from finetune.training_plan import TrainingPlan, base_of, version_of
from mlops.bootstrap import ensure_schema
from mlops.exceptions import ApplicationError, EngineUnavailable, JobFailed
from mlops.models import User


class Command(BaseCommand):
    help = (
        "Trains what a YAML file describes (name, method, base, dataset, options), without web or "
        "broker. Ctrl-C saves a checkpoint and stops. "
        "Exit status: 0 it succeeded, 1 it failed, 2 bad arguments, 130 it was stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            dest="changes",
            metavar="OPTION=VALUE",
            help="an option, in place of the file's; may be given again",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show what is known beforehand; train nothing"
        )
        parser.add_argument("--enqueue", action="store_true", help="leave it to a worker")
        parser.add_argument(
            "--wait", action="store_true", help="with --enqueue: stay until it has ended"
        )
        parser.add_argument("--owner", default="", metavar="USERNAME", help="default: nobody")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_schema()
        try:
            plan = TrainingPlan.read(options["config"], changes=options["changes"])
            owner = User.objects.get(username=options["owner"]) if options["owner"] else None
            job = training_job_submit(
                owner=owner,
                name=plan.name,
                method=plan.method,
                base=base_of(plan),
                dataset_version=version_of(plan, plan.dataset, owner=owner),
                validation_version=version_of(plan, plan.validation, owner=owner)
                if plan.validation
                else None,
                options=plan.options,
                dry_run=options["dry_run"],
                serve=plan.serve,
                held=not options["enqueue"],
            )
        except User.DoesNotExist as error:
            raise CommandError(f"There is no user {options['owner']}.", returncode=2) from error
        except (ApplicationError, JobFailed, EngineUnavailable, OSError) as error:
            raise CommandError(str(error), returncode=2) from error
        if options["enqueue"] and not options["wait"]:
            self.stdout.write(f"{job.pk} waits for a worker of the queue {job.queue}.")
            return
        with StepsBar() as bar:
            if options["enqueue"]:
                job = follow(job, bar)
            else:
                job = run_here(job, lambda: train_job(str(job.pk)), show=bar)
        self._report(job)

    def _report(self, job: TrainingJob) -> None:
        for event in job.events.filter(level__in=["warn", "error"]).order_by("pk"):
            self.stderr.write(f"{event.level}: {event.message}")
        if job.status == job.Status.CANCELLED:
            step = job.checkpoints.filter(removed=False).values_list("step", flat=True).first()
            kept = f" A checkpoint is kept at step {step}." if step else ""
            self.stderr.write(f"Stopped.{kept} Job {job.pk}; a retry goes on from there.")
            sys.exit(130)
        if job.status != job.Status.SUCCEEDED:
            raise CommandError(f"{job.error} (job {job.pk})", returncode=1)
        if job.dry_run:
            for line in dry_report_lines(job.dry_report):
                self.stdout.write(line)
            return
        for version in job.versions.all():
            called = f", called '{job.model_name}'" if job.model_name else ""
            self.stdout.write(f"{version}: {version.get_fitness_display()}{called}")
        if job.mlflow_run_id:
            self.stdout.write(f"MLflow run {job.mlflow_run_id} {job.mlflow_run_url}".rstrip())


class StepsBar:
    """Steps with the loss and how long it will take; shown on a terminal only."""

    def __init__(self) -> None:
        self._bar = tqdm(
            unit="step", disable=None, file=sys.stderr, dynamic_ncols=True, leave=False
        )

    def __call__(self, job: TrainingJob) -> None:
        self._bar.total = job.progress_total or None
        self._bar.set_description_str(job.get_phase_display(), refresh=False)
        shown = {"loss": job.loss, "eval_loss": job.eval_loss}
        figures = {name: f"{value:.4g}" for name, value in shown.items() if value is not None}
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(job.progress_done - self._bar.n)
        self._bar.refresh()

    def __enter__(self) -> StepsBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
