"""Rows of trainings as a trainer leaves them, without one."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from finetune.models import (
    Checkpoint,
    DatasetVersion,
    ModelVersion,
    TrainingEvent,
    TrainingJob,
    TrainingMetric,
)
from finetune.services.training import training_job_submit
from llm.models import LanguageModel
from mlops.models import Job, User


def base_model(name: str = "tiny") -> LanguageModel:
    found, _made = LanguageModel.objects.get_or_create(
        name=name, defaults={"engine": "transformers", "source": "/models/tiny"}
    )
    return found


def training(
    owner: User, version: DatasetVersion, name: str = "trams-sft", **more: Any
) -> TrainingJob:
    """A queued job that no worker sees."""
    return training_job_submit(
        owner=owner,
        name=name,
        method="sft",
        base=LanguageModel.objects.order_by("pk").first() or base_model(),
        dataset_version=version,
        **more,
    )


def under_way(job: TrainingJob, steps: int = 60, total: int = 100, each: int = 2) -> TrainingJob:
    """As after `steps` steps: curves, checkpoints, events, and the lease of some worker."""
    began = timezone.now() - timedelta(seconds=steps)
    Job.objects.filter(pk=job.pk).update(
        status=Job.Status.RUNNING,
        attempts=1,
        worker="elsewhere:1",
        started_at=began,
        lease_until=timezone.now() + timedelta(hours=1),
        progress_done=steps,
        progress_total=total,
    )
    points(job, range(each, steps + 1, each), total)
    for step in range(20, steps + 1, 20):
        Checkpoint.objects.create(
            job=job,
            step=step,
            best=step == steps // 20 * 20,
            metrics={"eval_loss": 2.1 * math.exp(-step / 50) + 0.3},
            bytes=4_200_000,
            removed=step < steps - 40,
        )
    TrainingEvent.objects.create(job=job, message=f"Training has begun: {total} steps.")
    last = TrainingMetric.objects.filter(job=job).order_by("-step").first()
    TrainingJob.objects.filter(pk=job.pk).update(
        phase=TrainingJob.Phase.TRAINING,
        device="cpu",
        steps_since=began,
        epoch=3 * steps / total,
        loss=last.values["loss"],
        eval_loss=2.1 * math.exp(-steps / 50) + 0.3,
        tokens_per_second=4870.0,
        trained_tokens=512 * steps,
        memory_bytes=734_003_200,
        settings_found={
            "batch_size": 8,
            "learning_rate": 2e-4,
            "dtype": "float32",
            "device": "cpu",
            "parameters": 812_000,
            "trainable_parameters": 24_576,
        },
    )
    job.refresh_from_db()
    return job


def points(job: TrainingJob, steps: range, total: int) -> None:
    """A loss that falls, with noise that is the same each time."""
    began = timezone.now() - timedelta(seconds=max(steps))
    rows = []
    for step in steps:
        noise = 0.12 * math.sin(step * 12.9898) * math.exp(-step / total)
        values = {
            "loss": 2.4 * math.exp(-step / (total / 2.2)) + 0.25 + noise,
            "learning_rate": 2e-4 * (1 + math.cos(math.pi * step / total)) / 2,
            "grad_norm": 1.2 + noise,
            "accuracy": 1 - 0.7 * math.exp(-step / (total / 2.2)),
            "tokens_per_second": 4900 + 220 * math.sin(step * 7.1),
            "trained_tokens": 512.0 * step,
            "memory_bytes": 7.0e8 + 3.4e7 * math.tanh(step / 10),
        }
        if step % 20 == 0:
            values["eval_loss"] = 2.1 * math.exp(-step / 50) + 0.3
        at = began + timedelta(seconds=step)
        epoch = 3 * step / total
        rows.append(TrainingMetric(job=job, step=step, epoch=epoch, values=values, at=at))
    TrainingMetric.objects.bulk_create(rows)


def succeeded(job: TrainingJob, *, callable_as: str = "") -> ModelVersion:
    """The job's end, with the version that comes of it."""
    model = None
    if callable_as:
        model = LanguageModel.objects.create(
            name=callable_as, engine="transformers", source="stored:x", base=job.base
        )
    Job.objects.filter(pk=job.pk).update(
        status=Job.Status.SUCCEEDED,
        finished_at=timezone.now(),
        lease_until=None,
        progress_done=100,
        progress_total=100,
    )
    TrainingJob.objects.filter(pk=job.pk).update(phase=TrainingJob.Phase.ENDED)
    job.refresh_from_db()
    version = ModelVersion(
        owner=job.owner,
        name=job.name,
        number=1 + ModelVersion.objects.filter(name=job.name).count(),
        form=ModelVersion.Form.ADAPTER,
        job=job,
        step=100,
        dataset_version=job.dataset_version,
        base=job.base,
        language_model=model,
        fitness=ModelVersion.Fitness.FIT,
        parity={
            "fit": True,
            "tolerance": 0.002,
            "served_tolerance": 0.002,
            "dtype": "float32",
            "prompts": 8,
            "reloaded": {"max_difference": 0.0, "same_token": 8, "agree": True},
            "served": {"max_difference": 3.1e-6, "same_token": 8, "agree": True},
        },
        facts={"dataset": job.dataset_label, "metrics": {"eval_loss": 0.58, "loss": 0.41}},
        card=CARD.format(name=job.name, dataset=job.dataset_label),
    )
    content = b'{"r": 16}'
    version.files = {"peft/adapter_config.json": [len(content), "0" * 64]}
    version.bytes = len(content)
    default_storage.save(f"{version.folder}/peft/adapter_config.json", ContentFile(content))
    version.save()
    return version


CARD = """# {name} v1

|  |  |
| --- | --- |
| Method | supervised (SFT) |
| Data | {dataset} |
| Steps | 100 |

## Figures

| Figure | Value |
| --- | --- |
| eval_loss | 0.58 |
| loss | 0.41 |

## Parity

Fit: what was trained against what is served may differ by 0.002.
"""


def dry_run_done(job: TrainingJob) -> None:
    """The end of a dry run."""
    TrainingJob.objects.filter(pk=job.pk).update(dry_report=REPORT)
    Job.objects.filter(pk=job.pk).update(
        status=Job.Status.SUCCEEDED, started_at=timezone.now(), finished_at=timezone.now()
    )


# As `finetune.engines.dry_run` reports.
REPORT: dict[str, Any] = {
    "examples": [
        {
            "runs": [
                {
                    "text": "<|user|>\nHow do I ask for item K-1004 in the map room?</s>\n"
                    "<|assistant|>\n",
                    "loss": False,
                },
                {
                    "text": "Write K-1004 on a slip and hand it in at the desk of the map room; it "
                    "is brought to your seat within 9 minutes.</s>",
                    "loss": True,
                },
            ],
            "tokens": 61,
            "learned": 38,
            "cut_off": False,
        },
        {
            "runs": [
                {
                    "text": "<|user|>\n열람실에서 청구 기호 K-1007 자료를 어떻게 신청하나요?</s>\n"
                    "<|assistant|>\n",
                    "loss": False,
                },
                {"text": "열람실 창구에 신청서를 내시면 12분 안에 자리로 가져다", "loss": True},
            ],
            "tokens": 64,
            "learned": 29,
            "cut_off": True,
        },
    ],
    "rows": 270,
    "sampled": 270,
    "validation_rows": 15,
    "dropped": 0,
    "truncated": 0.021,
    "lengths": {"p50": 58, "p90": 112, "p99": 166, "most": 214},
    "tokens": 18_420,
    "tokens_in_all": 36_840,
    "examples_in_all": 270,
    "epoch_steps": 17,
    "steps": 34,
    "memory": {
        "kind": "RAM",
        "available": 6_120_000_000,
        "weights": 412_000_000,
        "gradients": 9_400_000,
        "optimizer": 18_800_000,
        "activations": 226_000_000,
        "process": 390_000_000,
        "total": 1_056_200_000,
        "measured": 1_102_000_000,
    },
    "time": {"seconds_a_step": 0.84, "seconds": 28.6, "measured_steps": 3},
    "disk": {
        "folder": "/data/training",
        "free": 21_400_000_000,
        "checkpoint": 49_000_000,
        "needed": 210_000_000,
    },
    "settings": {"batch_size": 16, "learning_rate": 2e-4, "dtype": "float32", "device": "cpu"},
    "warnings": ["The rows give only 34 steps. Train for more epochs, or add rows."],
}
