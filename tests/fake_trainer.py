"""A trainer's process that learns nothing, quickly: what it does stands in its first row.

Each step takes `delay` seconds; the "weights" are a number that depends on all steps before, so
that a run which goes on from a checkpoint can be told from one that began anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from finetune.engines.base import (
    CHECKPOINTS,
    EVENTS,
    RESULT,
    STOP,
    Event,
    Failed,
    Finished,
    Looked,
    Metrics,
    Notice,
    Phase,
    Saved,
    Started,
    Stopped,
    TrainSpec,
    event_line,
)
from finetune.engines.checkpoints import complete

WEIGHTS = "weights.json"


def main() -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = TrainSpec.read(Path(sys.argv[1]))
    work = spec.work
    order = json.loads(json.loads((work / "rows/train.jsonl").read_text().split("\n")[0])["text"])

    def tell(event: Event) -> None:
        with (work / EVENTS).open("a") as file:
            file.write(event_line(event) + "\n")

    def save(step: int, value: float) -> None:
        place = work / CHECKPOINTS / f"checkpoint-{step}"
        place.mkdir(parents=True, exist_ok=True)
        (place / WEIGHTS).write_text(json.dumps([step, value]))
        complete(place)
        names = sorted((work / CHECKPOINTS).iterdir(), key=lambda one: int(one.name[11:]))
        removed = []
        for old in names[:-2]:
            removed.append(old.name)
            (old / WEIGHTS).unlink()
            (old / "complete.json").unlink()
            old.rmdir()
        tell(Saved(step=step, name=place.name, best=True, metrics={"loss": value}, removed=removed))

    tell(Phase(name="loading"))
    if spec.mode == "dry":
        tell(Looked(report={"rows": order["steps"], "base": spec.base}))
        return 0
    if "fail" in order:
        tell(Failed(code=order["fail"], message="Lower 'batch_size'."))
        return 1
    if "break" in order:
        sys.stderr.write("a library's last words\n")
        return 3
    start, value = 0, 1.0
    if spec.resume:
        start, value = json.loads((Path(spec.resume) / WEIGHTS).read_text())
    settings = {"device": spec.options["device"], "from": spec.begin_with}
    tell(Started(total_steps=order["steps"], start_step=start, settings=settings))
    tell(Notice(level="warn", message="Two rows were cut off."))
    for step in range(start + 1, order["steps"] + 1):
        time.sleep(order.get("delay", 0))
        value = (value * 31 + step) % 1009
        values = {"loss": value, "trained_tokens": step * 10.0, "memory_bytes": 1e6}
        tell(Metrics(step=step, epoch=step / order["steps"], values=values))
        if step == order.get("nan"):
            tell(Metrics(step=step, epoch=1, values={"eval_loss": float("nan"), "accuracy": 0.5}))
        if step % 5 == 0:
            save(step, value)
        mark = work / "died"
        if step == order.get("die") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if (work / STOP).exists() and "deaf" not in order:
            save(step, value)
            tell(Stopped(step=step))
            return 0
    (work / RESULT).mkdir()
    (work / RESULT / WEIGHTS).write_text(json.dumps([order["steps"], value]))
    parity = {"tolerance": 1e-3, "fit": not order.get("unfit")}
    parity["served"] = {"max_difference": 0.5 if order.get("unfit") else 1e-6}
    tell(Finished(step=order["steps"], trained_tokens=order["steps"] * 10, parity=parity))
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
