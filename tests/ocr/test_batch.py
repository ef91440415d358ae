"""`manage.py ocr_batch`: files in, texts out, rows kept, faults told apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from mlops.models import Job
from ocr.models import Document, OcrJob, PageResult
from ocr.outputs import Target, find_targets
from ocr.samples import multi_page_pdf, render_samples
from ocr.scoring import cer
from tests.environment import ROOT

DONE = {"files", "pages", "failed", "seconds", "pages_per_second"}


@pytest.fixture
def tree(tmp_path: Path, png) -> Path:
    """Two images and a PDF in sub-folders, beside files that are no documents."""
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(50))
    (folder / "deep" / "b.PNG").write_bytes(png(70))
    multi_page_pdf(folder / "deep" / "er" / "c.pdf", 3)
    (folder / "notes.txt").write_text("not a document")
    (folder / ".hidden.png").write_bytes(png(90))
    return folder


@pytest.fixture
def run(fake_engines, transactional_db, settings, capsys):
    """Runs the command in this process; its children get the fake engine."""
    settings.MLFLOW_TRACKING_URI = "none"

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            call_command("ocr_batch", *map(str, arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_tree_is_mirrored_and_rows_are_kept(run, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed, _err = run(
        tree, "--out", out, "--formats", "txt,json", "--workers", 2, "--json", "--language", "en"
    )
    assert code == 0
    figures = json.loads(printed.splitlines()[-1])
    assert figures.keys() == DONE
    assert (figures["files"], figures["pages"], figures["failed"]) == (3, 5, 0)
    names = ("a", "deep/b", "deep/er/c")
    assert files(out) == sorted(f"{name}.{form}" for name in names for form in ("txt", "json"))
    assert (out / "a.txt").read_text() == "width 50\n\nfaint\n"
    body = json.loads((out / "deep/er/c.json").read_text())
    assert [page["page"] for page in body["pages"]] == [1, 2, 3]
    assert body["status"] == "succeeded" and body["document"]["media_type"] == "application/pdf"

    jobs = OcrJob.objects.select_related("document")
    assert {(job.status, job.attempts, job.owner) for job in jobs} == {("succeeded", 1, None)}
    assert {job.document.source for job in jobs} == {"command"}
    assert all(job.finished_at and job.worker and job.engine_seconds > 0 for job in jobs)
    assert Document.objects.count() == 3


def test_bad_file_is_reported_and_the_rest_go_on(run, tree: Path, tmp_path: Path) -> None:
    (tree / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (tree / "empty.png").touch()
    code, printed, err = run(tree, "--out", tmp_path / "out", "--workers", 1, "--json")
    assert code == 1
    assert "bad.jpg: The file is damaged" in err and "empty.png: The file is empty" in err
    assert json.loads(printed.splitlines()[-1])["failed"] == 2
    assert (tmp_path / "out/a.txt").exists() and not (tmp_path / "out/bad.txt").exists()
    assert "Traceback" not in err
    assert OcrJob.objects.filter(status="succeeded").count() == 3


def test_resume_reads_only_what_is_new(run, tree: Path, tmp_path: Path, png) -> None:
    out = tmp_path / "out"
    run(tree, "--out", out, "--workers", 1)
    (tree / "new.png").write_bytes(png(33))
    (out / "a.txt").unlink()
    before = set(OcrJob.objects.values_list("pk", flat=True))
    code, printed, _err = run(tree, "--out", out, "--workers", 1, "--resume", "--json")
    assert code == 0
    # a.txt came from its rows; only the new file's page was read.
    assert json.loads(printed.splitlines()[-1])["pages"] == 1
    assert (out / "a.txt").read_text() == "width 50\n\nfaint\n"
    assert (out / "new.txt").read_text() == "width 33\n\nfaint\n"
    assert OcrJob.objects.exclude(pk__in=before).count() == 1


def test_page_that_kills_its_process_fails_alone(run, tree: Path, tmp_path: Path, settings) -> None:
    settings.ENGINES = {
        "ocr": {
            "fake": {"BACKEND": "tests.fakes.FakeOcrEngine", "OPTIONS": {"die_on_width": 70}},
        }
    }
    code, _out, err = run(tree, "--out", tmp_path / "out", "--workers", 2)
    assert code == 1 and "b.PNG" in err and "crash" in err
    assert files(tmp_path / "out") == ["a.txt", "deep/er/c.txt"]
    statuses = dict(OcrJob.objects.values_list("document__name", "status"))
    assert statuses == {"a.png": "succeeded", "b.PNG": "failed", "c.pdf": "succeeded"}


def test_missing_engine_ends_it_with_the_reason(run, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"requirements/ocr-paddle\.txt") as raised:
        run(tree, "--out", tmp_path / "out", "--language", "ko", "--workers", 1)
    assert raised.value.returncode == 1
    assert not Job.objects.filter(status="running").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-folder"], "no such file or folder"),
        (["IN", "--engine", "tessaract"], "no engine 'tessaract'"),
        (["IN", "--language", "xx"], "Unknown language 'xx'"),
        (["IN", "--formats", "docx"], "unknown format docx"),
        (["IN", "--min-confidence", "2"], "from 0 to 1"),
        (["IN", "--workers", "0"], "whole number"),
        ([], "required"),
    ],
)
def test_bad_arguments_exit_with_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    """As a user meets it: a process, its exit status, its stderr without a traceback."""
    (tmp_path / "in").mkdir()
    words = [str(tmp_path / "in") if word == "IN" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "manage.py", "ocr_batch", *words, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.faults
def test_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """kill -9 in the middle of a document, then --resume: each page once, from a real engine."""
    (tmp_path / "in").mkdir()
    truth = multi_page_pdf(tmp_path / "in" / "long.pdf", 40)
    env = {
        **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL",)},
        **{"DATA_DIR": str(tmp_path / "data"), "JOB_LEASE_SECONDS": "1"},
        "MLFLOW_TRACKING_URI": "none",
    }
    command = [sys.executable, "manage.py", "ocr_batch", str(tmp_path / "in")]
    command += ["--out", str(tmp_path / "out"), "--language", "en", "--workers", "2", "--json"]
    first = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True)
    database = tmp_path / "data" / "db.sqlite3"
    deadline = time.monotonic() + 60
    while pages_in(database) < 3:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = pages_in(database)
    assert 3 <= kept < 40 and not (tmp_path / "out" / "long.txt").exists()

    time.sleep(1.2)  # until the lease of the killed process has run out
    again = subprocess.run(
        [*command, "--resume"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["pages"] == 40 - kept
    assert pages_in(database) == 40
    assert cer("\n".join(truth), (tmp_path / "out" / "long.txt").read_text()) < 0.05


def pages_in(database: Path) -> int:
    import sqlite3

    if not database.exists():
        return 0
    with sqlite3.connect(database, timeout=10) as connection:
        try:
            return connection.execute("SELECT count(*) FROM ocr_pageresult").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


class TestTargets:
    def test_same_stem_keeps_the_ending(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.jpg", "b.png"):
            (tmp_path / name).touch()
        targets = find_targets([str(tmp_path)], Path("out"))
        assert [str(target.output(".txt")) for target in targets] == [
            "out/a.jpg.txt",
            "out/a.png.txt",
            "out/b.txt",
        ]

    def test_glob_and_file_once_each(self, tmp_path: Path) -> None:
        (tmp_path / "x[1].png").touch()
        (tmp_path / "y.png").touch()
        paths = [str(tmp_path / "*.png"), str(tmp_path / "y.png"), str(tmp_path / "x[1].png")]
        targets = find_targets(paths, Path("out"))
        assert sorted(target.source.name for target in targets) == ["x[1].png", "y.png"]

    def test_complete_only_if_no_older_than_the_source(self, tmp_path: Path) -> None:
        source, out = tmp_path / "a.png", tmp_path / "a.txt"
        source.touch()
        target = Target(source, tmp_path / "a")
        assert not target.complete(["txt"])
        out.touch()
        assert target.complete(["txt"])
        os.utime(out, (1, 1))
        assert not target.complete(["txt"])


@pytest.mark.e2e
def test_demo_says_whether_the_text_came_out_right(tmp_path: Path) -> None:
    """As `make demo` runs it: a worker of its own, the embedded defaults; again, it is quick."""
    env = {
        **{k: v for k, v in os.environ.items() if k not in ("DATABASE_URL",)},
        "DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "manage.py", "demo"]
    first = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    samples = render_samples(tmp_path / "compare")
    for sample in samples:
        assert sample.path.name in first.stdout
        text = (tmp_path / "demo/results" / f"{sample.name}.txt").read_text()
        assert cer("\n".join(sample.truth), text) < 0.02
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "media").rglob("*"))
    again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    # The same table, figures and all: nothing was read anew.
    assert again.stdout == first.stdout
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "media").rglob("*")) == before

    # Where no engine reads Hangul, that page is left out, and the line that mends it is said.
    gone = {"BACKEND": "ocr.engines.tesseract.TesseractEngine", "OPTIONS": {"program": "nowhere"}}
    less = subprocess.run(
        command,
        cwd=ROOT,
        env={**env, "OCR_ENGINES": json.dumps({"tesseract": gone})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert less.returncode == 0
    assert "korean-page.png" not in less.stdout and "receipt.png" in less.stdout
    assert "Left out" in less.stdout and "apt-get install -y tesseract-ocr" in less.stdout

    # A text that is wrong is noticed.
    shutil.rmtree(tmp_path / "demo")
    import sqlite3

    with sqlite3.connect(tmp_path / "db.sqlite3") as connection:
        connection.execute("UPDATE ocr_pageresult SET text = 'nonsense'")
    wrong = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and "did not come out right" in wrong.stderr


def test_what_was_read_before_is_not_read_again(run, tree: Path, tmp_path: Path) -> None:
    image, out = tree / "a.png", tmp_path / "out"
    arguments = (image, "--out", out, "--workers", 1, "--language", "en")
    run(*arguments)
    PageResult.objects.update(text="as it was read", lines=[])
    run(*arguments)
    assert (out / "a.txt").read_text() == "as it was read\n"
    run(*arguments, "--force")
    assert (out / "a.txt").read_text() == "width 50\n\nfaint\n"
