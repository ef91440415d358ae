"""Options of training, by method: one dataclass each, from which forms and help texts are made.

No library is imported here: the site checks with these what a worker will train by.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from mlops.exceptions import ApplicationError

AUTO = "auto"


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    group: str = "Training",
) -> Any:
    """A field with what people are told of it and the limits that its numbers keep to."""
    return field(
        default=default, metadata={"help": help, "least": least, "most": most, "group": group}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What every method has. Checked when made by `from_options`."""

    epochs: float = option(3.0, "passes over the training rows", least=0, most=1000)
    max_steps: int = option(0, "steps to end after; 0: by epochs", least=0, most=10_000_000)
    batch_size: int | Literal["auto"] = option(
        AUTO, "rows a device and step; auto: what fits into memory", least=1, most=4096
    )
    gradient_accumulation: int = option(1, "batches to a step", least=1, most=4096)
    learning_rate: float | Literal["auto"] = option(
        AUTO, "the highest; auto: what the method is known to do well with", least=0, most=1
    )
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = option(
        "cosine", "how the learning rate goes down"
    )
    warmup: float = option(0.03, "share of the steps that it goes up in first", least=0, most=1)
    weight_decay: float = option(0.0, "", least=0, most=1)
    max_grad_norm: float = option(1.0, "gradients are cut to this length", least=0, most=1000)
    seed: int = option(42, "of the order of rows and of new weights", least=0, most=2**31 - 1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        AUTO, "to calculate in; auto: bfloat16 on a GPU that has it, float32 else", group="Machine"
    )
    device: str = option(AUTO, "auto, cpu, cuda or cuda:N", group="Machine")
    processes: int = option(
        1, "on each machine; more than 1: as many GPUs", least=1, most=64, group="Machine"
    )
    machines: int = option(
        1,
        "as many workers of the queue train, each on a machine of its own",
        least=1,
        most=64,
        group="Machine",
    )
    gradient_checkpointing: bool = option(
        False, "less memory for a third more time", group="Machine"
    )
    log_steps: int = option(5, "a point of the curves each N steps", least=1, most=10_000)
    eval_steps: int = option(
        0, "the validation rows are tried each N steps; 0: after each epoch", least=0, most=10**7
    )
    early_stopping: int = option(
        0, "stop after N tries without a gain; 0: never", least=0, most=1000
    )
    save_steps: int = option(
        0,
        "a checkpoint each N steps; 0: twenty in all",
        least=0,
        most=10**7,
        group="Checkpoints",
    )
    keep_checkpoints: int = option(
        2, "the best and the newest N are kept", least=1, most=100, group="Checkpoints"
    )
    resume_from: str = option(
        "", "id of a training job whose last checkpoint to begin with", group="Checkpoints"
    )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Of numbers, texts and booleans, or of texts for all. Raises ApplicationError."""
        known = {one.name: one for one in fields(cls)}
        if unknown := sorted(set(options) - set(known)):
            raise ApplicationError(
                f"There is no option '{unknown[0]}' here. There are: {', '.join(sorted(known))}.",
                code="unknown_option",
                param=unknown[0],
            )
        hints = get_type_hints(cls)
        config = cls(**{name: read(known[name], hints[name], options[name]) for name in options})
        config.check()
        return config

    def check(self) -> None:
        """What no option shows by itself. Raises ApplicationError."""
        if not self.epochs and not self.max_steps:
            raise ApplicationError(
                "Say how long to train: 'epochs' or 'max_steps' above 0.",
                code="out_of_range",
                param="epochs",
            )
        if ":" in self.device and len(self.device.split(",")) < self.processes:
            raise ApplicationError(
                f"device: '{self.device}' is one, and 'processes' asks for {self.processes} on "
                "each machine. Say cuda or auto, or take fewer processes on more 'machines'.",
                code="out_of_range",
                param="device",
            )

    def as_options(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageConfig(TrainingConfig):
    """What the methods for language models have."""

    adapter: Literal["lora", "qlora", "full"] = option(
        "lora", "train a LoRA adapter, one on a base in 4 bits, or all weights", group="Weights"
    )
    lora_r: int = option(16, "rank", least=1, most=1024, group="Weights")
    lora_alpha: int = option(32, "scale, over the rank", least=1, most=4096, group="Weights")
    lora_dropout: float = option(0.0, "", least=0, most=0.9, group="Weights")
    lora_targets: str = option(
        "all-linear", "layers, by name, with commas between; all-linear: all", group="Weights"
    )
    max_length: int = option(
        1024, "tokens; longer rows are cut off", least=8, most=1_000_000, group="Rows"
    )
    packing: Literal["auto", "on", "off"] = option(
        AUTO, "several rows in one sequence; auto: on a GPU, where it is quicker", group="Rows"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SftConfig(LanguageConfig):
    """Learning answers: conversations, or prompts with completions."""

    answers_only: bool = option(True, "only the answers' tokens carry loss", group="Rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class CptConfig(LanguageConfig):
    """Reading on: plain text, every token of which carries loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoConfig(LanguageConfig):
    """Learning which of two answers is the better (Rafailov et al. 2023)."""

    beta: float = option(0.1, "how near to stay to the model before", least=0, most=10)
    loss: Literal["sigmoid", "ipo", "hinge", "robust"] = option("sigmoid", "form of the loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrRecognitionConfig(TrainingConfig):
    """Reading lines: a convolutional and recurrent network, trained by CTC."""

    epochs: float = option(20.0, "passes over the training rows", least=0, most=10_000)
    batch_size: int | Literal["auto"] = option(32, "lines a step", least=1, most=4096)
    height: int = option(32, "pixels that lines are scaled to", least=16, most=128, group="Network")
    channels: int = option(
        32, "of the first layer; the others follow", least=8, most=256, group="Network"
    )
    hidden: int = option(128, "of the recurrent layers", least=16, most=1024, group="Network")
    characters: str = option(
        "", "to tell apart; empty: those of the training rows", group="Network"
    )
    languages: str = option("en", "EasyOCR's codes, with commas between", group="Network")
    augment: bool = option(True, "lines are bent, blurred and shaded anew each time", group="Rows")
    max_width: int = option(
        1024, "pixels; wider lines are squeezed", least=64, most=8192, group="Rows"
    )


CONFIGS: dict[str, type[TrainingConfig]] = {
    "sft": SftConfig,
    "dpo": DpoConfig,
    "cpt": CptConfig,
    "ocr-recognition": OcrRecognitionConfig,
}
# The kinds of datasets that each method learns from.
KINDS = {
    "sft": ("chat", "completion"),
    "dpo": ("preference",),
    "cpt": ("text",),
    "ocr-recognition": ("ocr",),
}


def config_of(method: str, options: Mapping[str, Any]) -> TrainingConfig:
    """Raises ApplicationError for a method or option that there isn't."""
    if method not in CONFIGS:
        raise ApplicationError(
            f"method: one of {', '.join(CONFIGS)}.", code="unknown_choice", param="method"
        )
    return CONFIGS[method].from_options(options)


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words that an option of this type may be."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(word for part in get_args(hint) for word in choices_of(part))
    return ()


def read(option: Field[Any], hint: Any, value: Any) -> Any:
    """The value in the option's own type. Raises ApplicationError."""
    choices = choices_of(hint)
    if isinstance(value, str) and value in choices:
        return value
    plain = next((part for part in get_args(hint) or (hint,) if isinstance(part, type)), None)
    if plain is None:
        raise _wrong(option, f"one of {', '.join(choices)}")
    if plain is bool:
        if value in (True, False):
            return bool(value)
        words = {"true": True, "false": False, "on": True, "off": False, "yes": True, "no": False}
        if str(value).lower() not in words:
            raise _wrong(option, "true or false")
        return words[str(value).lower()]
    if plain is str:
        if not isinstance(value, str):
            raise _wrong(option, "a text")
        return value
    return _number(option, plain, value, choices)


def _number(option: Field[Any], plain: type, value: Any, choices: tuple[str, ...]) -> int | float:
    least, most = option.metadata["least"], option.metadata["most"]
    wanted = f"a {'whole ' if plain is int else ''}number from {least} to {most}"
    if choices:
        wanted += f", or {' or '.join(choices)}"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _wrong(option, wanted) from None
    inside = math.isfinite(number) and least <= number <= most
    if isinstance(value, bool) or not inside or (plain is int and number != int(number)):
        raise _wrong(option, wanted)
    return plain(number)


def _wrong(option: Field[Any], wanted: str) -> ApplicationError:
    return ApplicationError(f"{option.name}: {wanted}.", code="invalid_option", param=option.name)
