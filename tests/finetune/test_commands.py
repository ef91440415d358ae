"""`manage.py dataset_validate` and `dataset_import`: what they print and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from finetune.models import Dataset, DatasetVersion
from mlops.models import User
from tests.environment import ROOT
from tests.finetune.made import chats, write_lines

BAD = {"messages": [{"role": "user", "content": "Nobody answers this."}]}


def ended(command: str, *arguments: Any) -> int:
    """The command's exit status."""
    try:
        call_command(command, *map(str, arguments))
    except SystemExit as end:
        return int(end.code or 0)
    except CommandError as error:
        return error.returncode
    return 0


def test_a_file_is_validated_without_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [*chats(30), BAD, "oops"])
    assert ended("dataset_validate", path) == 1
    shown = capsys.readouterr().out
    assert "32 rows read, 30 good, 2 bad" in shown
    assert "line 31, messages[0]: The last message is of role user" in shown
    assert "error            1  Not JSON" in shown and "Write one JSON object a line." in shown
    assert "2 rows have errors" in shown
    assert ended("dataset_validate", path, "--drop-bad-rows") == 0
    assert "without its 2 bad rows" in capsys.readouterr().out
    assert ended("dataset_validate", write_lines(tmp_path / "good", chats(5))) == 0
    assert "No problems found." in capsys.readouterr().out


def test_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{**row, "thread": 1} for row in chats(9)])
    assert ended("dataset_validate", path, "--json", "--group-by", "thread") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["grouped_by"] == "thread" and report["splits"]["train"]["groups"] == 1


@pytest.mark.parametrize(
    "arguments",
    [["no such file"], ["rows", "--test", "1.5"], ["rows", "--tokenizer", "/no/such/folder"]],
)
def test_bad_arguments_end_with_2(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "rows", chats(3))
    assert ended("dataset_validate", *arguments) == 2


def test_a_database_that_is_away_is_no_matter_to_dataset_validate(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", chats(5))
    environment = {
        **os.environ,
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "dataset_validate", str(path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "5 rows read, 5 good" in done.stdout


@pytest.mark.django_db
def test_versions_by_command(
    tmp_path: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = User.objects.create_user("kim")
    path = write_lines(tmp_path / "rows.jsonl", chats(30))
    given = (path, "--name", "trams", "--owner", "kim", "--licence", "CC0", "--seed", 3)
    assert ended("dataset_import", *given) == 0
    assert "Kept as trams v1" in capsys.readouterr().out
    path = write_lines(tmp_path / "rows.jsonl", [*chats(40), BAD])
    assert ended("dataset_import", path, "--name", "trams", "--owner", "kim", "--json") == 1
    figures = json.loads(capsys.readouterr().out)
    assert (figures["version"], figures["state"], figures["rows_bad"]) == (2, "invalid", 1)
    version = DatasetVersion.objects.get(number=2)
    assert (version.seed, version.source, version.dataset.owner) == (3, "rows.jsonl", user)


@pytest.mark.django_db
def test_what_can_t_be_read_leaves_no_dataset_behind(tmp_path: Path, storage: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", ["{}", '{"colour": "red"}'])
    assert ended("dataset_import", path, "--name", "colours") == 2
    assert ended("dataset_import", path, "--name", "colours", "--owner", "nobody") == 2
    assert not Dataset.objects.exists()
