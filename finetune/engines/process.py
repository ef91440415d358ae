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
        choose_device(str(spec.config.device), alone=os.environ.get("LOCAL_WORLD_SIZE", "1") == "1")
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
    processes on a machine (not `alone`) see all those named (cuda:2,cuda:3), and each takes its
    own.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    numbers = [int(one.partition(":")[2]) for one in device.split(",") if ":" in one]
    if numbers or alone:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(
            seen[number] if number < len(seen) else str(number) for number in numbers or [0]
        )


def end_with_parent() -> None:
    # By the descriptor: a thread that waits in a buffered file can't be ended with the process.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # All is told and saved. At an ordinary exit the group of processes may abort while another
        # one still works, whose launcher then waits for this one's for minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
