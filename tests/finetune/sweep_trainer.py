"""A trainer's process for sweeps: how well it learns depends on its learning rate alone."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

from finetune.engines.base import (
    EVENTS,
    RESULT,
    STOP,
    Event,
    Failed,
    Finished,
    Metrics,
    Started,
    Stopped,
    TrainSpec,
    event_line,
)

STEPS = 20
# Best at 0.001; from here on it fails.
BEST, BROKEN = -3.0, 0.5


def main() -> int:
    spec = TrainSpec.read(Path(sys.argv[1]))

    def tell(event: Event) -> None:
        with (spec.work / EVENTS).open("a") as file:
            file.write(event_line(event) + "\n")

    rate = spec.config.learning_rate
    assert isinstance(rate, float)
    if rate >= BROKEN:
        tell(Failed(code="diverged", message="Lower 'learning_rate'."))
        return 1
    far = abs(math.log10(rate) - BEST)
    tell(Started(total_steps=STEPS, settings={"device": "cpu"}))
    for step in range(1, STEPS + 1):
        values = {"loss": far + 1 / step}
        if step % 5 == 0:
            values["eval_loss"] = far + 1 / step
        tell(Metrics(step=step, epoch=step / STEPS * spec.config.epochs, values=values))
        # A bad one is slow from its middle on: it ends when it is asked to.
        while far > 1.5 and step > STEPS // 2 and not (spec.work / STOP).exists():
            time.sleep(0.01)
        if (spec.work / STOP).exists():
            tell(Stopped(step=step))
            return 0
    (spec.work / RESULT).mkdir()
    (spec.work / RESULT / "weights.json").write_text(json.dumps(rate))
    parity = {"tolerance": 1e-3, "fit": True}
    tell(Finished(step=STEPS, trained_tokens=STEPS, parity=parity))
    return 0


if __name__ == "__main__":
    sys.exit(main())
