"""Programs are kept running, their lines told apart, and stopped when asked."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from tests.environment import ROOT
from tests.services import wait_for

RUN = """
import sys
from mlops.supervisor import Program, Supervisor

def python(name, code, **options):
    return Program(name, [sys.executable, "-c", code], **options)

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
Supervisor([
    python("talks", "import time; print('hello'); time.sleep(60)"),
    python("dies", "import os; print('pid', os.getpid()); raise SystemExit(3)"),
    python("stays", DEAF, grace=0.5),
]).run()
"""


def test_restarts_prefixes_and_stops(tmp_path) -> None:
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=out)
    text = (tmp_path / "out").read_text

    def said() -> bool:
        return len(re.findall(r"^dies +\| pid", text(), re.M)) >= 2 and "deaf" in text()

    assert wait_for(said, 20), text()
    assert re.search(r"^talks +\| hello$", text(), re.M)
    assert "dies   | ended with 3; started again in 1 s" in text()
    process.send_signal(signal.SIGINT)
    # The one that ignores the signal is killed after its grace.
    assert process.wait(15) == 0
