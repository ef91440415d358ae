"""What a trainer's process is given and what it tells, as files in its folder.

    <work>/spec.json      TrainSpec: written before the start
    <work>/rows/*.jsonl   train and validation rows in canonical form, one JSON object a line
    <work>/images/*.png   pictures of OCR lines; a row names its own in "image"
    <work>/events.jsonl   Event after Event, appended by the trainer and read by whoever started it
    <work>/stop           made by whoever started it: save a checkpoint, then end with `Stopped`
    <work>/checkpoints/checkpoint-<step>/   as transformers' Trainer writes them
    <work>/result/        the trained model, as it is registered and served

A trainer knows no database, settings or MLflow. It ends by itself when its standard input closes:
whoever started it is gone then.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from finetune.engines.configs import TrainingConfig, config_of

SPEC, EVENTS, STOP = "spec.json", "events.jsonl", "stop"
# A code of `Failed`: another process of the same training is gone, whose own reason says more.
PEER_LOST = "peer_lost"
ROWS, IMAGES, CHECKPOINTS, RESULT = "rows", "images", "checkpoints", "result"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """One run of a trainer. `base` is a folder or hub name; empty: a network from new weights.

    `resume`: a checkpoint's folder to go on from, empty to begin anew. `begin_with`: a checkpoint
    of another run whose weights to begin with. `mode` "dry": look at everything, train nothing.
    """

    method: str
    options: dict[str, Any]
    folder: str
    base: str = ""
    chat_template: str = ""
    trust_remote_code: bool = False
    resume: str = ""
    begin_with: str = ""
    mode: Literal["train", "dry"] = "train"
    # Steps to try in a dry run, to say how long all will take; 0: the formula alone.
    measured_steps: int = 3

    @property
    def config(self) -> TrainingConfig:
        return config_of(self.method, self.options)

    @property
    def work(self) -> Path:
        return Path(self.folder)

    def on(self, device: str) -> Self:
        """The same on this device, whatever the options ask for."""
        return replace(self, options=self.options | {"device": device})

    def write(self) -> Path:
        path = self.work / SPEC
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


# -- what a trainer tells ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of events.jsonl; `at` in seconds since the epoch."""

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Event):
    """Where it is: loading, preparing, measuring, training, saving, checking."""

    name: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The first step is about to come. `start_step` is above 0 where a run goes on.

    `settings`: what "auto" became, and what else was found: batch_size, learning_rate, dtype,
    device, packing, trainable_parameters, parameters, train_rows, tokens_an_epoch.
    """

    total_steps: int
    start_step: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Event):
    """A point of the curves. Names are those of `METRICS`; further ones may come beside them."""

    step: int
    epoch: float
    values: dict[str, float]


# loss, learning_rate, grad_norm, tokens_per_second, rows_per_second, trained_tokens,
# cpu_percent (of one core), memory_bytes (of the trainer, resident), gpu_memory_bytes; from the
# validation rows: eval_loss, eval_accuracy (of tokens), eval_cer. Of DPO also margin and accuracy.
METRICS = {
    "loss": "Loss",
    "eval_loss": "Validation loss",
    "accuracy": "Accuracy",
    "eval_accuracy": "Validation accuracy",
    "margin": "Margin of rewards",
    "eval_margin": "Validation margin",
    "eval_cer": "Validation CER",
    "learning_rate": "Learning rate",
    "grad_norm": "Length of gradients",
    "tokens_per_second": "Tokens a second",
    "rows_per_second": "Rows a second",
    "trained_tokens": "Tokens trained on",
    "cpu_percent": "CPU, percent of one core",
    "memory_bytes": "Memory",
    "gpu_memory_bytes": "GPU memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """A checkpoint is whole on the disk. `removed`: names of those that made room for it."""

    step: int
    name: str
    best: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something that people should know of: a torn checkpoint passed over, rows cut off."""

    level: Literal["info", "warn", "error"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """It was asked to stop, has saved a checkpoint and ends."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """The result lies in <work>/result.

    `parity`: of trained against reloaded, see `finetune.engines.parity`. `facts`: what the model
    card says: final metrics, parameters, libraries with versions, device.
    """

    step: int
    trained_tokens: int
    parity: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked(Event):
    """What a dry run has found; see `finetune.engines.dry_run`."""

    report: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Event):
    """What a model that is evaluated made of some rows; see `finetune.engines.evaluate`."""

    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """All is done, of a process that trains nothing. `facts`: what it found, by name."""

    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """It can't go on. Codes: out_of_memory, disk_full, diverged, bad_rows, bad_model, peer_lost,
    crashed.
    """

    code: str
    message: str
    traceback: str = ""


KINDS_OF_EVENTS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Phase, Started, Metrics, Saved, Notice, Stopped),
        *(Finished, Looked, Answered, Ended, Failed),
    )
}


def event_line(event: Event) -> str:
    return json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, ensure_ascii=False)


def event_read(line: str) -> Event:
    values = json.loads(line)
    return KINDS_OF_EVENTS[values.pop("event")](**values)


class Teller(Protocol):
    """What a trainer reports through."""

    def tell(self, event: Event) -> None: ...

    def asked_to_stop(self) -> bool: ...


class Trainer(Protocol):
    """One method of training. Raises TrainingFailed for what people can mend."""

    def __call__(self, spec: TrainSpec, teller: Teller) -> None: ...


class TrainingFailed(Exception):
    """An expected failure; `code` as of `Failed`."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
