"""`manage.py demo_finetune` as `make demo-finetune` runs it, but for the base: it is there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from finetune.demo_rows import UNANSWERED, tickets
from tests.environment import ROOT
from tests.llm.conftest import shared_folder, trained_model

__all__ = ["shared_folder", "trained_model"]


@pytest.mark.e2e
@pytest.mark.timeout(1200)
def test_demo_imports_trains_evaluates_and_serves(tmp_path: Path, trained_model: Path) -> None:
    shutil.copytree(trained_model, tmp_path / "demo-finetune" / "base")
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo_finetune"],
        cwd=ROOT,
        env={**environment, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert "480 rows read, 477 good, 3 bad" in said and "Empty target" in said
    # The dry run shows what is learned, and nothing else between the marks.
    assert re.search(r'assistant\n  \| \[\[\{"passenger": .*\}<\|im_end\|>\]\]', said)
    assert re.search(r"demo-tickets v1 in \d+ s: Fit ", said)
    assert said.count("\n> ") == 3
    after = re.search(r"Exact match  0\.0% before, ([\d.]+)% after", said)
    assert after and float(after[1]) > 80
    assert re.search(r"MLflow run   [0-9a-f]{32}", said)
    log = (tmp_path / "demo-finetune" / "platform.log").read_text()
    assert "Shutting down: Master" in log


def test_the_rows_of_the_demo() -> None:
    rows = tickets()
    assert rows == tickets() and len({json.dumps(row) for row in rows}) == len(rows) == 480
    empty = [n for n, row in enumerate(rows) if not row["messages"][1]["content"]]
    assert tuple(empty) == UNANSWERED
    asked, answered = (message["content"] for message in rows[0]["messages"])
    values = json.loads(answered)
    assert asked == f"Ticket: {values['to']}, seat {values['seat']}, {values['passenger']}"


def test_demo_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find(name: str, *more: Any) -> Any:
        return None if name == "trl" else found(name, *more)

    monkeypatch.setattr("finetune.management.commands.demo_finetune.find_spec", find)
    with pytest.raises(CommandError, match=r"needs trl\. Run make demo-finetune"):
        call_command("demo_finetune")


def test_demo_is_not_for_production(settings: Any) -> None:
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="ENVIRONMENT is production"):
        call_command("demo_finetune")
