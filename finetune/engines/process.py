"""The trainer's process: `python -m finetune.engines.process SPEC.json`, by `accelerate launch`.

Ends with status 0 once Finished, Stopped or Looked is told, with 1 after Failed.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path

from finetune.engines.base import Trainer, TrainSpec
from finetune.engines.configs import AUTO
from finetune.engines.failures import failure
from finetune.engines.telling import FileTeller

# Each imported only when it is what is asked for: their libraries take seconds.
TRAINERS = {
    "sft": "finetune.engines.sft.train",
    "dpo": "finetune.engines.dpo.train",
    "cpt": "finetune.engines.cpt.train",
    "ocr-recognition": "finetune.engines.ocr_recognition.train",
}


def main(arguments: list[str]) -> int:
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    spec = TrainSpec.read(Path(arguments[0]))
    teller = FileTeller(spec.work, main=os.environ.get("RANK", "0") == "0")
    try:
        choose_device(str(spec.config.device), alone=os.environ.get("WORLD_SIZE", "1") == "1")
        trainer_of(spec.method)(spec, teller)
    # Whatever it is, whoever started this process must be told.
    except Exception as error:
        teller.tell(failure(error, spec))
        return 1
    return 0


def trainer_of(method: str) -> Trainer:
    module, _, name = TRAINERS[method].rpartition(".")
    return getattr(importlib.import_module(module), name)


def choose_device(device: str, *, alone: bool) -> None:
    """Hides the GPUs that aren't meant; must come before torch is imported.

    One process that sees several would share its batches out among them by itself. Several
    processes (not `alone`) see all, and each takes its own.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif alone:
        number = int(device.partition(":")[2] or 0) if device != AUTO else 0
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[number] if number < len(seen) else str(number)


def end_with_parent() -> None:
    # By the descriptor: a thread that waits in a buffered file can't be ended with the process.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
