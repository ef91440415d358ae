"""`manage.py demo_finetune`: from a file of rows to a model that OpenAI's own client calls."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from finetune.demo_rows import tickets_write
from finetune.dry_report_text import dry_report_lines
from finetune.evaluation.lines import result_lines
from finetune.local_run import run_here
from finetune.models import DatasetVersion, Evaluation, TrainingJob
from finetune.report_text import report_lines
from finetune.services.evaluations import evaluation_submit
from finetune.services.training import training_job_submit
from finetune.tasks import evaluate, train_job
from finetune.training_plan import TrainingPlan, version_of
from finetune.version_files import version_rows
from llm.management.commands.demo_llm import platform
from llm.models import LanguageModel
from llm.services.models import model_save
from mlops.bootstrap import ensure_schema, first_user
from mlops.exceptions import ApplicationError
from mlops.models import Job

BASE, NAME, DATASET = "demo-base", "demo-tickets", "demo-tickets"
REQUIREMENTS = "pip install -r requirements/demo-finetune.txt -r requirements/torch.txt"
PLAN = f"""\
# As the demo trains it. Again, with other options:
#   manage.py finetune_train THIS --set epochs=3
name: {NAME}
method: sft
base: {BASE}
dataset: tickets.jsonl
import: {{name: {DATASET}, test: 0.15, validation: 0.05, drop_bad_rows: true}}
options: {{epochs: 8, learning_rate: 3e-3, batch_size: 16, lora_r: 16, eval_steps: 50}}
"""
# So many of the test rows the client asks.
ASKED = 3


class Command(BaseCommand):
    help = (
        "Imports a small dataset, shows its report and a dry run, trains a LoRA adapter on a tiny "
        "model, evaluates before and after, serves the result, and calls it through the openai "
        "package. Exit status 0 only if what was trained is better and answers right."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--folder", type=Path, default=settings.DATA_DIR / "demo-finetune")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The demo is for the embedded setting; ENVIRONMENT is production.")
        for name in ("openai", "torch", "trl", "datasets"):
            _need(name)
        # Here, since they are the demo's alone.
        openai, tiny = importlib.import_module("openai"), importlib.import_module("llm.tiny")
        ensure_schema()
        credentials = first_user()
        folder: Path = options["folder"].resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            base = self._base(tiny, folder / "base")
            plan, version = self._dataset(folder)
            self._dry_run(plan, base, version)
            job = self._train(plan, base, version)
            evaluation = self._evaluate(job, version)
        except ApplicationError as error:
            raise CommandError(error.message) from error
        with platform(folder / "platform.log") as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=credentials.api_key)
            with client:
                wrong = self._ask(client, job.model_name, version)
        self._end(folder, job, evaluation)
        if wrong > 1:
            raise CommandError(f"{wrong} of {ASKED} answers did not come out right.")

    # -- what is there before -------------------------------------------------------------------

    def _base(self, tiny: Any, folder: Path) -> LanguageModel:
        self._title("The model before")
        if not folder.is_dir():
            self.stdout.write("Training a Llama of a million weights; this takes about a minute.")
            unfinished = folder.with_name("unfinished")
            tiny.trained_model(unfinished)
            unfinished.rename(folder)
        model = LanguageModel.objects.filter(name=BASE).first() or LanguageModel(name=BASE)
        self.stdout.write(f"'{BASE}' has never seen a ticket. It lies in {folder}.")
        return model_save(model=model, source=str(folder), dtype="float32", enabled=True)

    def _dataset(self, folder: Path) -> tuple[TrainingPlan, DatasetVersion]:
        self._title("The dataset")
        tickets_write(folder / "tickets.jsonl")
        path = folder / "train.yaml"
        path.write_text(PLAN, encoding="utf-8")
        plan = TrainingPlan.read(path)
        version = version_of(plan, plan.dataset, owner=None)
        for line in report_lines(version.report, ready=version.ready):
            self.stdout.write(line)
        return plan, version

    # -- training and evaluating ----------------------------------------------------------------

    def _dry_run(self, plan: TrainingPlan, base: LanguageModel, version: DatasetVersion) -> None:
        self._title("The dry run")
        job = _job(plan, base, version, dry_run=True)
        job = self._ran(job, lambda: train_job(str(job.pk)))
        for line in dry_report_lines(job.dry_report | {"examples": job.dry_report["examples"][:1]}):
            self.stdout.write(line)

    def _train(
        self, plan: TrainingPlan, base: LanguageModel, version: DatasetVersion
    ) -> TrainingJob:
        self._title("Training a LoRA adapter")
        job = _job(plan, base, version, dry_run=False)
        seen: dict[str, int] = {}

        def tell(row: Job) -> None:
            step = row.progress_done
            if isinstance(row, TrainingJob) and row.loss and step >= seen.get("step", 0) + 25:
                seen["step"] = step
                self.stdout.write(f"step {step} of {row.progress_total}, loss {row.loss:.3f}")

        job = self._ran(job, lambda: train_job(str(job.pk)), tell)
        made = job.versions.get()
        parity = made.parity["served"]["max_difference"]
        self.stdout.write(
            f"{made} in {job.seconds:.0f} s: {made.get_fitness_display()} (served and trained "
            f"differ by {parity:.1e} in log-probabilities at most), called '{job.model_name}'."
        )
        return job

    def _evaluate(self, job: TrainingJob, version: DatasetVersion) -> Evaluation:
        self._title("Before and after")
        evaluation = evaluation_submit(
            owner=None,
            dataset_version=version,
            models=[BASE, job.model_name],
            max_tokens=48,
            enqueue=False,
        )
        evaluation = self._ran(evaluation, lambda: evaluate(str(evaluation.pk))["status"])
        for line in result_lines(evaluation):
            self.stdout.write(line)
        return evaluation

    def _ran(
        self, job: Any, execute: Callable[[], str], show: Callable[[Job], None] = lambda job: None
    ) -> Any:
        """Raises CommandError unless it has succeeded."""
        job = run_here(job, execute, show=show)
        if job.status != Job.Status.SUCCEEDED:
            raise CommandError(f"It ended as {job.status}. {job.error}".strip())
        return job

    # -- serving --------------------------------------------------------------------------------

    def _ask(self, client: Any, name: str, version: DatasetVersion) -> int:
        """How many answers of the served model are wrong."""
        self._title(f"Asking '{name}' through the openai package")
        listed = [model.id for model in client.models.list()]
        if name not in listed:
            raise CommandError(f"The platform doesn't list '{name}', only {', '.join(listed)}.")
        wrong = 0
        rows = list(version_rows(version, "test"))[:ASKED]
        for row in rows:
            question, truth = (message["content"] for message in row["messages"])
            answer = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": question}], temperature=0
            )
            said = (answer.choices[0].message.content or "").strip()
            wrong += said != truth
            self.stdout.write(f"{question}\n> {said}{'' if said == truth else '  (wrong)'}")
        return wrong

    def _end(self, folder: Path, job: TrainingJob, evaluation: Evaluation) -> None:
        before, after = (side["figures"]["exact"] for side in evaluation.result["sides"])
        run = f"{job.mlflow_run_id} {job.mlflow_run_url}".strip() or "tracking is off"
        self.stdout.write(
            f"\n  Exact match  {before['value']:.1%} before, {after['value']:.1%} after "
            f"({after['low']:.1%} to {after['high']:.1%}) on {after['n']} unseen rows\n"
            f"  MLflow run   {run}\n"
            f"  Again        manage.py finetune_train {folder / 'train.yaml'}\n"
            f"  Look at it   make run, then http://127.0.0.1:8010/admin/finetune/trainingjob/\n"
        )
        if after["low"] <= before["high"]:
            raise CommandError("What was trained is not shown to be better than before.")

    def _title(self, text: str) -> None:
        self.stdout.write(f"\n== {text} ==")


def _job(
    plan: TrainingPlan, base: LanguageModel, version: DatasetVersion, *, dry_run: bool
) -> TrainingJob:
    return training_job_submit(
        owner=None,
        name=plan.name,
        method=plan.method,
        base=base,
        dataset_version=version,
        options=plan.options,
        dry_run=dry_run,
        held=True,
    )


def _need(name: str) -> None:
    """Raises CommandError saying how a library that isn't there is installed."""
    if find_spec(name) is None:
        raise CommandError(f"The demo needs {name}. Run make demo-finetune, or: {REQUIREMENTS}")
