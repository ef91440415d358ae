"""A merger's process that merges nothing: what it does stands in a file of the base's folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from finetune.engines.base import RESULT, Failed, Finished, Phase, TrainSpec
from finetune.engines.process import end_with_parent
from finetune.engines.telling import FileTeller


def main() -> int:
    threading.Thread(target=end_with_parent, daemon=True).start()
    spec = TrainSpec.read(Path(sys.argv[1]))
    order = json.loads((Path(spec.base) / "order.json").read_text())
    teller = FileTeller(spec.work)
    (Path(spec.base) / "pid").write_text(str(os.getpid()))
    teller.tell(Phase(name="loading"))
    if order == "wait":
        time.sleep(600)
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "break":
        sys.stderr.write("a library's last words\n")
        return 3
    if order == "fail":
        teller.tell(Failed(code="out_of_memory", message="Memory ran out."))
        return 1
    teller.tell(Phase(name="saving"))
    (spec.work / RESULT / "model").mkdir(parents=True)
    (spec.work / RESULT / "model" / "weights").write_text(f"{spec.base} + {spec.begin_with}")
    teller.tell(Phase(name="checking"))
    side = {"max_difference": 0.5 if order == "differ" else 1e-6, "agree": order != "differ"}
    parity = {"tolerance": 2e-3, "reloaded": side, "served": side, "fit": order != "differ"}
    facts = {"parameters": 812}
    teller.tell(Finished(step=0, trained_tokens=0, parity=parity, facts=facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
