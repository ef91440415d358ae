"""`manage.py demo_llm` as `make demo-llm` runs it, but for the training: the model is there."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError, OutputWrapper

from llm.management.commands.demo_llm import ask
from llm.tiny import Lesson, lessons
from tests.environment import ROOT
from tests.model_server import TOKEN, LanguageServerProcess


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_demo_trains_serves_and_asks(tmp_path: Path, trained_model: Path) -> None:
    shutil.copytree(trained_model, tmp_path / "demo-llm" / "model")
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo_llm"],
        cwd=ROOT,
        env={**environment, "DATA_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("fact", "reversal", "counting", "record"):
        lesson = next(one for one in lessons(1) if one.kind == kind)
        assert f"{lesson.question}\n  > {lesson.answer}\n" in done.stdout
    assert done.stdout.count("tokens read") == 4
    # What it had started is gone.
    log = (tmp_path / "demo-llm" / "platform.log").read_text()
    assert "Shutting down: Master" in log and log.count("Warm shutdown") == 2


def test_an_answer_that_is_wrong_is_noticed() -> None:
    """The fake counts as it is told, and repeats everything else."""
    out = io.StringIO()
    with (
        LanguageServerProcess("folder", "--name", "demo") as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN) as client,
    ):
        assert ask(client, Lesson("counting", "count 3", "1 2 3"), OutputWrapper(out))
        assert not ask(client, Lesson("fact", "Capital?", "Solmar."), OutputWrapper(out))
    assert "count 3\n  > 1 2 3\n    2 tokens read, 3 written, " in out.getvalue()
    assert "Capital?\n  > Capital?\n" in out.getvalue()


def test_demo_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(CommandError, match=r"needs openai\. Run make demo-llm"):
        call_command("demo_llm")


def test_demo_is_not_for_production(settings) -> None:
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="ENVIRONMENT is production"):
        call_command("demo_llm")
