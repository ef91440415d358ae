"""TRL's trainers, told of the options: what "auto" means, how many rows a step, when to save."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from finetune.engines.base import CHECKPOINTS, TrainSpec
from finetune.engines.callback import diverged
from finetune.engines.configs import AUTO, LanguageConfig
from finetune.engines.language import Base, Place
from finetune.engines.prepared import TRAIN, VALIDATION, Counts, Form, Prepared
from ocr.engines.torch_library import import_torch

torch = import_torch()


@dataclass(frozen=True, slots=True)
class Method:
    """What one method has of its own. `rates`: learning rates by adapter, for "auto".

    `build(base, arguments, config, rows, validation)` makes TRL's trainer; `arguments` are those
    of all methods.
    """

    form: Form
    rates: dict[str, float]
    build: Callable[..., Any]
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows a device at once, and how many such batches make a step."""

    size: int
    accumulation: int


def build(
    spec: TrainSpec,
    config: LanguageConfig,
    base: Base,
    rows: Prepared,
    batch: Batch,
    method: Method,
    **others: Any,
) -> Any:
    """TRL's trainer, with all options as it names them; `others` go before them."""
    sequence = Sequence(config.max_length, batch.size)
    if packs(config, base.place) and not method.pairs:
        sequence = packed(rows.counts[TRAIN], batch, config.max_length)
    arguments = {
        "output_dir": str(spec.work / CHECKPOINTS),
        "num_train_epochs": config.epochs or 1.0,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": sequence.count,
        "per_device_eval_batch_size": batch.size,
        "gradient_accumulation_steps": batch.accumulation,
        "learning_rate": rate_of(config, method),
        "lr_scheduler_type": config.schedule,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "data_seed": config.seed,
        "bf16": base.place.dtype == "bfloat16",
        "fp16": base.place.dtype == "float16",
        "use_cpu": base.place.device == "cpu",
        "gradient_checkpointing": config.gradient_checkpointing,
        "logging_steps": config.log_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if rows.validation is not None else "no",
        "save_strategy": "steps",
        # Which are kept is the callback's to say.
        "save_total_limit": None,
        "include_num_input_tokens_seen": "non_padding",
        # An adapter's weights all take part in each step; to look for others costs time.
        "ddp_find_unused_parameters": None if config.adapter == "full" else False,
        "dataloader_pin_memory": base.place.device == "cuda",
        "max_length": sequence.length,
        "report_to": "none",
        "disable_tqdm": True,
    }
    validation = None if others.get("eval_strategy") == "no" else rows.validation
    trainer = method.build(base, arguments | others, config, rows.rows, validation)
    steps = steps_of(trainer)
    # Known only now: packing makes few sequences of many rows.
    trainer.args.warmup_steps = math.ceil(steps * config.warmup)
    trainer.args.save_steps = config.save_steps or math.ceil(steps / 20)
    trainer.args.eval_steps = config.eval_steps or epoch_steps(trainer)
    return trainer


class Sequence(NamedTuple):
    """What is given to the model at once: `count` sequences of at most `length` tokens."""

    length: int
    count: int


def packed(counts: Counts, batch: Batch, most: int) -> Sequence:
    """Sequences that hold about as many rows a step as there would be without packing."""
    tokens = math.ceil(batch.size * counts.tokens / max(1, counts.examples))
    if tokens <= most:
        return Sequence(max(tokens, counts.longest), 1)
    return Sequence(most, max(1, round(tokens / most)))


def rate_of(config: LanguageConfig, method: Method) -> float:
    if config.learning_rate != AUTO:
        return float(config.learning_rate)
    return method.rates["full" if config.adapter == "full" else "adapter"]


def epoch_steps(trainer: Any) -> int:
    """As transformers' Trainer counts them: a last batch that isn't full is one too."""
    args = trainer.args
    batches = math.ceil(
        len(trainer.train_dataset) / (args.per_device_train_batch_size * args.world_size)
    )
    return max(1, math.ceil(batches / args.gradient_accumulation_steps))


def steps_of(trainer: Any) -> int:
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * epoch_steps(trainer))


def packs(config: LanguageConfig, place: Place) -> bool:
    """On a CPU packed rows are slower than padded ones."""
    return config.packing == "on" or (config.packing == AUTO and place.device == "cuda")


def settings(
    trainer: Any,
    config: LanguageConfig,
    base: Base,
    rows: Prepared,
    batch: Batch,
    method: Method,
) -> dict[str, Any]:
    """What "auto" became, and what else was found."""
    counts = rows.counts[TRAIN]
    device = base.place.device
    return {
        "batch_size": batch.size,
        "gradient_accumulation": batch.accumulation,
        "learning_rate": rate_of(config, method),
        "dtype": base.place.dtype,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "processes": trainer.args.world_size,
        "packing": packs(config, base.place) and not method.pairs,
        "parameters": sum(one.numel() for one in trainer.model.parameters()),
        "trainable_parameters": sum(
            one.numel() for one in trainer.model.parameters() if one.requires_grad
        ),
        "train_rows": counts.rows,
        "validation_rows": rows.counts[VALIDATION].rows,
        "tokens_an_epoch": counts.tokens,
    }


class Watched:
    """Mixed into TRL's trainers: a loss that is no number ends the training at once."""

    def training_step(self, *given: Any, **named: Any) -> Any:
        loss = super().training_step(*given, **named)  # type: ignore[misc]
        if not torch.isfinite(loss):
            raise diverged(
                self.state.global_step + 1,  # type: ignore[attr-defined]
                loss.item(),
                self.args.learning_rate,  # type: ignore[attr-defined]
            )
        return loss
