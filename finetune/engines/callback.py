"""What transformers' Trainer tells a callback, told as events; and when it is to save and stop."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.engines import checkpoints
from finetune.engines.base import Metrics, Notice, Saved, Started, Teller, TrainingFailed
from finetune.engines.memory import resident_bytes
from ocr.engines.torch_library import import_torch

torch = import_torch()
transformers = importlib.import_module("transformers")

# Beside what the Trainer saves: what this run has found out, for whoever goes on with it.
STATE = "training.json"
# The libraries' names for what `finetune.engines.base.METRICS` names.
NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "mean_token_accuracy": "accuracy",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "eval_loss": "eval_loss",
    "eval_cer": "eval_cer",
    "eval_mean_token_accuracy": "eval_accuracy",
    "eval_rewards/accuracies": "eval_accuracy",
    "eval_rewards/margins": "eval_margin",
}


@dataclass(slots=True)
class State:
    """What outlives a process, in each checkpoint. `tries` without a gain in a row.

    `batch_size` and `accumulation` as they were found: others would change the order of rows.
    `kept`: steps whose checkpoints there are, also of those that were left on another machine.
    """

    batch_size: int
    accumulation: int
    best_step: int = 0
    best_loss: float | None = None
    tries: int = 0
    kept: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, checkpoint: Path) -> State | None:
        path = checkpoint / STATE
        return cls(**json.loads(path.read_text())) if path.is_file() else None

    def write(self, checkpoint: Path) -> None:
        (checkpoint / STATE).write_text(json.dumps(asdict(self)))


class TellingCallback(transformers.TrainerCallback):
    """`keep`: how many of the newest checkpoints stay, beside the best one.

    `patience`: tries of the validation rows without a gain, after which to stop; 0: never.
    `measure`: what is to become smaller.
    """

    measure = "eval_loss"

    def __init__(
        self, teller: Teller, state: State, *, keep: int, patience: int, settings: dict[str, Any]
    ) -> None:
        self._teller, self.state, self._settings = teller, state, settings
        self._keep, self._patience = keep, patience
        self.stopped = False
        self.metrics: dict[str, float] = {}
        self._since, self._cpu, self._tokens = 0.0, 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._teller.tell(
            Started(
                total_steps=state.max_steps,
                start_step=state.global_step,
                settings=self._settings,
            )
        )
        self._clock(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._asked(args):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        values = {NAMES[name]: float(logs[name]) for name in logs if name in NAMES}
        if not values:
            return
        if not math.isfinite(values.get("loss", 0.0)):
            raise diverged(state.global_step, values["loss"], args.learning_rate)
        if "loss" in values:
            values |= self._pace(state)
        self.metrics |= values
        self._teller.tell(Metrics(step=state.global_step, epoch=state.epoch or 0.0, values=values))

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float], **_: Any
    ) -> None:
        loss = metrics.get(self.measure)
        if loss is not None and math.isfinite(loss):
            self._tried(state, control, loss)
        self._clock(state)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.distributed.is_initialized():
            # Each process saves a part of its own.
            torch.distributed.barrier()
            parts_gather(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        if state.is_world_process_zero:
            self._saved(Path(args.output_dir), state.global_step)
        self._clock(state)

    def _tried(self, state: Any, control: Any, loss: float) -> None:
        found = self.state
        if found.best_loss is None or loss < found.best_loss:
            found.best_loss, found.best_step, found.tries = loss, state.global_step, 0
            control.should_save = True
            return
        found.tries += 1
        if self._patience and found.tries >= self._patience:
            control.should_training_stop = control.should_save = True
            self._teller.tell(
                Notice(
                    level="info",
                    message=f"Stopped early: {found.tries} tries of the validation rows without "
                    f"a gain on step {found.best_step}.",
                )
            )

    def _saved(self, place: Path, step: int) -> None:
        """The checkpoint is whole; those that are neither the best nor among the newest go."""
        found, folder = self.state, place / f"checkpoint-{step}"
        steps = sorted({*found.kept, step})
        found.kept = [one for one in steps if one in steps[-self._keep :] or one == found.best_step]
        found.write(folder)
        checkpoints.complete(folder)
        removed = [f"checkpoint-{one}" for one in steps if one not in found.kept]
        for name in removed:
            shutil.rmtree(place / name, ignore_errors=True)
        self._teller.tell(
            Saved(
                step=step,
                name=folder.name,
                best=found.best_step == step,
                metrics=dict(self.metrics),
                removed=removed,
            )
        )

    def _asked(self, args: Any) -> bool:
        """Whether to stop, as the main process sees it: all must do so after the same step."""
        asked = args.process_index == 0 and self._teller.asked_to_stop()
        if not torch.distributed.is_initialized():
            return asked
        flag = torch.tensor(int(asked), device=args.device)
        torch.distributed.broadcast(flag, 0)
        return bool(flag.item())

    def _clock(self, state: Any) -> None:
        """Trying and saving don't count as training."""
        self._since, self._cpu = time.monotonic(), time.process_time()
        self._tokens = state.num_input_tokens_seen

    def _pace(self, state: Any) -> dict[str, float]:
        tokens = state.num_input_tokens_seen - self._tokens
        seconds, cpu = time.monotonic() - self._since, time.process_time() - self._cpu
        self._clock(state)
        found = {
            "trained_tokens": float(state.num_input_tokens_seen),
            "memory_bytes": float(resident_bytes()),
        }
        if tokens and seconds > 0:
            found["tokens_per_second"] = tokens / seconds
        if seconds > 0:
            found["cpu_percent"] = 100 * cpu / seconds
        if torch.cuda.is_available():
            found["gpu_memory_bytes"] = float(torch.cuda.max_memory_reserved())
        return found


def parts_gather(checkpoint: Path) -> None:
    """Brings what other machines' processes have saved for themselves to the first one's disk.

    These are the states of their random numbers, some kilobytes each.
    """
    world = torch.distributed.get_world_size()
    if int(os.environ.get("LOCAL_WORLD_SIZE", world)) == world:
        return
    rank = torch.distributed.get_rank()
    own = checkpoint / f"rng_state_{rank}.pth"
    parts = [None] * world if rank == 0 else None
    torch.distributed.gather_object((own.name, own.read_bytes()), parts, dst=0)
    for name, content in parts or ():
        if not (checkpoint / name).exists():
            (checkpoint / name).write_bytes(content)


def diverged(step: int, loss: float, rate: float) -> TrainingFailed:
    return TrainingFailed(
        f"The loss is {loss} at step {step}: training has diverged. Lower 'learning_rate' (now "
        f"{rate:g}), to a tenth at first; 'max_grad_norm' and a longer 'warmup' help too.",
        code="diverged",
    )
