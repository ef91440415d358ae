"""A training job as its page shows it: figures in words, what was set, found, and made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from finetune.method_options import MethodOption, method_options
from finetune.models import Checkpoint, ModelVersion, TrainingJob
from finetune.recogniser_view import CER, percent
from mlops import display
from mlops.models import Job

FITNESS = {
    ModelVersion.Fitness.FIT: "success",
    ModelVersion.Fitness.UNFIT: "danger",
    ModelVersion.Fitness.UNCHECKED: "",
}
# Of an alphabet so many characters are shown.
FIRST_CHARACTERS = 60
# A limit from which on nobody meets it.
ENDLESS = 1_000_000
# What was found out, in the order in which people look for it; the rest follows.
FOUND = (
    *("batch_size", "gradient_accumulation", "learning_rate", "dtype", "device", "processes"),
    *("packing", "parameters", "trainable_parameters", "train_rows", "tokens_an_epoch"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: str
    hint: str = ""


def number(value: float | None, digits: int = 4) -> str:
    return display.NOTHING if value is None else f"{value:.{digits}g}"


def size(value: float | None) -> str:
    return filesizeformat(value) if value else display.NOTHING


def phase_words(job: TrainingJob) -> str:
    """What it does right now, as people say it."""
    if job.paused:
        return "Paused. It goes on from its last checkpoint once it is resumed."
    if job.status == Job.Status.QUEUED:
        if job.after_id is not None:
            return "Waits until its file has been imported and checked."
        return "Waits for a worker of the queue train."
    if job.status != Job.Status.RUNNING:
        return ""
    if job.cancel_requested or job.held:
        return "Stops: a checkpoint is saved first."
    words = job.get_phase_display()
    return f"{words[:1].upper()}{words[1:]}" + (f", on {job.device}" if job.device else "")


def time_left(job: TrainingJob) -> str:
    end = job.estimated_finish
    if end is None:
        return ""
    seconds = (end - timezone.now()).total_seconds()
    return f"{display.duration(max(1.0, round(seconds)))} left, done at {_clock(job)}"


def _clock(job: TrainingJob) -> str:
    end = timezone.localtime(job.estimated_finish)
    same_day = end.date() == timezone.localdate()
    return end.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")


def figures(job: TrainingJob) -> list[Figure]:
    """The numbers on top of the page."""
    best = job.checkpoints.filter(best=True).first()
    hint = "none tried yet"
    if best is not None and "eval_loss" in best.metrics:
        hint = f"best {number(best.metrics['eval_loss'])}, at step {best.step:,}"
    elif job.eval_loss is not None:
        hint = "of the validation rows"
    lines = job.method == TrainingJob.Method.OCR
    speed = _rows_per_second(job) if lines else job.tokens_per_second
    rate = f"{speed:,.0f}" if speed else display.NOTHING
    return [
        Figure("Step", f"{job.progress_done:,}", _of(job)),
        Figure("Epoch", f"{job.epoch:.2f}", f"of {number(job.options.get('epochs'))}"),
        Figure("Loss", number(job.loss), "of the last steps"),
        _cer(job) if lines else Figure("Validation loss", number(job.eval_loss), hint),
        Figure("Rows a second" if lines else "Tokens a second", rate, _trained(job)),
        Figure("Memory", size(job.memory_bytes), "of the trainer"),
    ]


def _rows_per_second(job: TrainingJob) -> float:
    point = job.metrics.order_by("-step").first()
    return point.values.get("rows_per_second", 0.0) if point else 0.0


def _of(job: TrainingJob) -> str:
    return f"of {job.progress_total:,}" if job.progress_total else "how many is found out first"


def _cer(job: TrainingJob) -> Figure:
    """Of the validation lines: as last tried, and the least."""
    tried = job.metrics.filter(values__has_key=CER).order_by("step")
    found = [(values[CER], step) for step, values in tried.values_list("step", "values")]
    if not found:
        return Figure("Validation CER", display.NOTHING, "none tried yet")
    least, step = min(found)
    return Figure("Validation CER", percent(found[-1][0]), f"best {percent(least)}, step {step:,}")


def _trained(job: TrainingJob) -> str:
    if job.method == TrainingJob.Method.OCR:
        return f"{job.rows_seen:,} lines seen" if job.rows_seen else ""
    return f"{job.trained_tokens:,} trained on" if job.trained_tokens else ""


def checkpoint_rows(job: TrainingJob) -> list[dict[str, Any]]:
    return [
        {
            "row": checkpoint,
            "figures": _figures_of(checkpoint),
            "bytes": "removed" if checkpoint.removed else size(checkpoint.bytes),
            "created": display.moment(checkpoint.created_at),
        }
        for checkpoint in job.checkpoints.order_by("-step")
    ]


def _figures_of(checkpoint: Checkpoint) -> str:
    shown = {"eval_loss": "validation loss", "loss": "loss"}
    named = [f"{name} {number(checkpoint.metrics.get(key))}" for key, name in shown.items()]
    named.append(f"CER {percent(checkpoint.metrics.get(CER))}")
    return ", ".join(one for one in named if not one.endswith(display.NOTHING))


def found_rows(job: TrainingJob) -> list[tuple[str, str]]:
    """What "auto" became, and what else was found out."""
    found = job.settings_found
    names = [*(name for name in FOUND if name in found), *sorted(set(found) - set(FOUND))]
    return [(words(name), _found_words(name, found[name])) for name in names]


def _found_words(name: str, value: Any) -> str:
    if name != "characters":
        return value_words(value)
    first = str(value)[:FIRST_CHARACTERS]
    return f"{len(value):,}: {first}{'…' if len(first) < len(value) else ''}"


def option_rows(job: TrainingJob) -> list[dict[str, Any]]:
    """What was asked for, by group; `changed`: other than the default."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for option in method_options(job.method):
        value = job.options.get(option.name, option.default)
        groups.setdefault(option.group, []).append(
            {
                "name": words(option.name),
                "value": value_words(value),
                "changed": value != option.default,
                "help": option.help,
            }
        )
    return [{"name": name, "options": options} for name, options in groups.items()]


def words(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def value_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number(value, 6) if isinstance(value, float) else str(value or display.NOTHING)


def option_hint(option: MethodOption) -> str:
    """Its help, and the limits it keeps to."""
    hint = option.help[:1].upper() + option.help[1:]
    if option.least is None or option.most is None or option.most >= ENDLESS:
        return hint
    limits = f"{option.least:,g} to {option.most:,g}"
    return f"{hint} ({limits})" if hint else limits


def fitness_label(version: ModelVersion) -> SafeString:
    return display.label(version.get_fitness_display(), FITNESS[version.fitness])


def version_rows(job: TrainingJob) -> list[dict[str, Any]]:
    """What came of the job."""
    versions = job.versions.select_related("language_model").order_by("-number")
    return [
        {
            "version": version,
            "url": reverse("admin:finetune_modelversion_change", args=[version.pk]),
            "fitness": fitness_label(version),
            "form": version.get_form_display(),
            "bytes": size(version.bytes),
            "called_by": version.called_by,
        }
        for version in versions
    ]
