"""`manage.py ocr_evaluate`: engines against the texts that stand beside documents."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import call_command

from mlops import tracking
from mlops.exceptions import ApplicationError
from ocr.evaluation import Rules
from ocr.evaluation_report import aligned, differences, to_csv
from ocr.formats import Limits
from ocr.models import OcrJob
from ocr.samples import multi_page_pdf, render_samples
from ocr.scoring import normalised, score
from ocr.truth import find_truth
from tests.environment import ROOT

LIMITS = Limits(max_bytes=10_000_000, max_pages=20, max_pixels=10_000_000)
SAID = "width {}\nfaint\n"


@pytest.fixture
def folder(tmp_path: Path, png) -> Path:
    """Two images and a TIFF of two pages, for an engine that says how wide each page is."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(50))
    (folder / "a.txt").write_text(SAID.format(50))
    (folder / "deep/b.png").write_bytes(png(70))
    (folder / "deep/b.png.txt").write_text("WIDTH 70\nfaint and more\n")
    (folder / "c.tiff").write_bytes(png(80, form="TIFF", pages=2))
    (folder / "c.txt").write_text(f"{SAID.format(80)}\f{SAID.format(99)}\f\n")
    return folder


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tracking.RunRecord] = []

    def log(self, record: tracking.RunRecord) -> None:
        self.records.append(record)


@pytest.fixture
def run(fake_engines, transactional_db, settings, capsys, monkeypatch):
    """Runs the command in this process; `.runs` are what MLflow would have been told."""
    recorder = Recorder()
    monkeypatch.setattr("ocr.management.commands.ocr_evaluate.tracker", lambda: recorder)

    def call(*arguments: object) -> SimpleNamespace:
        code = 0
        try:
            call_command("ocr_evaluate", *map(str, arguments), "--workers", "1")
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err, runs=recorder.records)

    return call


def test_figures_are_those_of_the_pages(run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(folder, "--engine", "fake", "--language", "en", "--json", "--out", out)
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert body["rules"] == "NFC, case counts, white space collapsed"
    (figures,) = body["engines"]
    expected = score(
        [
            (SAID.format(50), SAID.format(50)),
            (SAID.format(80), SAID.format(80)),
            (SAID.format(99), SAID.format(81)),
            ("WIDTH 70\nfaint and more", SAID.format(70)),
        ],
        casefold=False,
    )
    assert figures["pages"] == 4 and figures["failed"] == 0
    for name in ("cer_micro", "cer_macro", "wer_micro", "wer_macro", "word_f1_micro"):
        assert figures[name] == pytest.approx(getattr(expected, name), abs=1e-6), name
    assert (figures["engine"], figures["model_version"]) == ("fake", "fake-1")
    assert figures["seconds"] > 0 and figures["pages_per_second"] > 0
    assert "Worst pages of fake:" in done.err and "deep/b.png" in done.err

    rows = list(csv.DictReader((out / "per_page.csv").open(newline="")))
    assert [(row["document"], row["page"]) for row in rows] == [
        ("a.png", ""),
        ("c.tiff", "1"),
        ("c.tiff", "2"),
        ("deep/b.png", ""),
    ]
    assert [float(row["cer"]) for row in rows][:2] == [0, 0] and int(rows[2]["errors"]) == 2
    assert json.loads((out / "evaluation.json").read_text())["per_page"][2]["errors"] == 2
    html = (out / "worst.html").read_text()
    assert "deep/b.png" in html and "c.tiff p. 2" in html and "a.png" not in html
    assert html.count("data:image/jpeg;base64,") == 2 and "<del>99</del><ins>81</ins>" in html
    assert set(OcrJob.objects.values_list("text_layer", flat=True)) == {"ignore"}


def test_case_folding_is_asked_for_and_said(run, folder: Path) -> None:
    done = run(folder, "--engine", "fake", "--language", "en", "--json", "--case-fold")
    body = json.loads(done.out)
    assert body["rules"] == "NFC, case folded, white space collapsed"
    strict = json.loads(run(folder, "--engine", "fake", "--language", "en", "--json").out)
    # "WIDTH" against "width": five characters, one word.
    assert body["engines"][0]["cer_micro"] < strict["engines"][0]["cer_micro"]


def test_engines_stand_side_by_side_and_each_is_tracked(run, folder: Path) -> None:
    done = run(folder, "--engine", "fake,missing,fake")
    # One engine can't be loaded: that is said, and the figures of the other are kept.
    assert done.code == 1
    table = [line.split() for line in done.out.splitlines() if line.startswith(("fake", "missing"))]
    assert [row[0] for row in table] == ["fake", "missing"]
    assert table[0][1:3] == ["4", "0"] and "requirements/ocr-paddle.txt" in " ".join(table[1])

    assert [record.experiment for record in done.runs] == ["ocr-evaluate"] * 2
    good, bad = done.runs
    assert good.succeeded and not bad.succeeded
    assert good.params["engine"] == "fake" and good.params["model_version"] == "fake-1"
    assert good.params["normalisation"].startswith("NFC") and good.params["language"] == "auto"
    assert 0 < good.metrics["cer_micro"] < 1 and good.metrics["pages"] == 4
    assert len(good.artifacts["per_page.csv"].splitlines()) == 5
    assert "error" in bad.params and bad.metrics == {}


def test_a_page_that_cannot_be_read_counts_as_wholly_wrong(run, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    (folder / "broken.txt").write_text("lost")
    done = run(folder, "--engine", "fake", "--language", "en", "--json")
    assert done.code == 1
    (figures,) = json.loads(done.out)["engines"]
    assert (figures["pages"], figures["failed"]) == (5, 1)
    line = next(line for line in done.err.splitlines() if "broken.png" in line)
    assert line.split()[0] == "1.0000" and "damaged" in line


def test_one_text_for_all_pages_of_a_document(run, tmp_path: Path, png) -> None:
    (tmp_path / "c.tiff").write_bytes(png(80, form="TIFF", pages=2))
    (tmp_path / "c.txt").write_text(SAID.format(80) + SAID.format(81))
    (tmp_path / "notes.png").write_bytes(png(33))
    done = run(tmp_path, "--engine", "fake", "--language", "en", "--json")
    (figures,) = json.loads(done.out)["engines"]
    assert (figures["pages"], figures["cer_micro"], done.code) == (1, 0, 0)
    assert "no text stands beside them: notes.png" in done.err


def test_a_tracking_server_that_is_away_costs_a_warning(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise tracking.TrackingUnavailable("connection refused")

    monkeypatch.setattr("ocr.management.commands.ocr_evaluate.tracker", away)
    done = run(folder, "--engine", "fake", "--language", "en")
    assert done.code == 0 and "Not logged to MLflow: connection refused" in done.err


class TestTruth:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"a.png": "", "b.png": ""}, r"No truth in .*scan\.png and scan\.txt"),
            ({"a.txt": "text"}, "No documents in"),
            ({"a.png": "", "a.txt": "x", "b.txt": "y"}, r"b\.txt: no document of that name"),
        ],
    )
    def test_what_is_missing_is_named(
        self, files: dict[str, str], message: str, tmp_path: Path, png
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_bytes(text.encode() or png())
        with pytest.raises(ApplicationError, match=message):
            find_truth(tmp_path, suffix=".txt", limits=LIMITS)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ApplicationError, match="is not a folder"):
            find_truth(tmp_path / "nowhere", suffix=".txt", limits=LIMITS)

    def test_pages_must_agree(self, tmp_path: Path) -> None:
        multi_page_pdf(tmp_path / "a.pdf", 3)
        (tmp_path / "a.txt").write_text("one\fthree")
        with pytest.raises(ApplicationError, match=r"has 2 pages .* a\.pdf has 3"):
            find_truth(tmp_path, suffix=".txt", limits=LIMITS)

    def test_bytes_that_are_no_text(self, tmp_path: Path, png) -> None:
        (tmp_path / "a.png").write_bytes(png())
        (tmp_path / "a.txt").write_bytes("Größe".encode("latin-1"))
        with pytest.raises(ApplicationError, match=r"a\.txt is not UTF-8"):
            find_truth(tmp_path, suffix=".txt", limits=LIMITS)

    def test_another_ending_and_a_byte_order_mark(self, tmp_path: Path, png) -> None:
        (tmp_path / "a.png").write_bytes(png())
        (tmp_path / "a.gt.txt").write_bytes("\ufeffText".encode())
        (tmp_path / "readme.txt").write_text("no truth")
        (tmp_path / ".b.png").write_bytes(png())
        ((truth,), without) = find_truth(tmp_path, suffix=".gt.txt", limits=LIMITS)
        assert truth.pages == ("Text",) and without == []

    def test_an_empty_page_is_a_page(self, tmp_path: Path, png) -> None:
        (tmp_path / "a.tiff").write_bytes(png(form="TIFF", pages=3))
        (tmp_path / "a.txt").write_text("one\f\fthree\f")
        ((truth,), _without) = find_truth(tmp_path, suffix=".txt", limits=LIMITS)
        assert truth.pages == ("one", "", "three")


class TestDifferences:
    @pytest.mark.parametrize(
        ("expected", "read"),
        [
            ("Tel: 07\nFax: 08", "Tel: 07Fax: 08"),
            ("one two three", "one three"),
            ("one two", "zero one two"),
            ("same\ntext", "same text"),
            ("wholly", "other words here"),
            ("", "noise"),
            ("lost\nlines", ""),
        ],
    )
    def test_both_texts_are_in_it(self, expected: str, read: str) -> None:
        pieces = differences(expected, read, Rules())
        kept = "".join(piece.text for piece in pieces if piece.kind != "ins")
        found = "".join(piece.text for piece in pieces if piece.kind != "del")
        assert normalised(kept) == normalised(expected)
        assert normalised(found) == normalised(read)
        assert bool([piece for piece in pieces if piece.kind]) == (expected.split() != read.split())

    def test_a_letter_is_marked_in_its_word(self) -> None:
        pieces = [(piece.kind, piece.text) for piece in differences("at noon", "at moon", Rules())]
        assert pieces == [("", "at "), ("del", "n"), ("ins", "m"), ("", "oon"), ("", "\n")]


def test_tables_and_csv_of_nothing() -> None:
    assert aligned([["a", "1"], ["long", "22"]], left={0}) == ["a      1", "long  22"]
    assert to_csv([]) == "engine\r\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NONE"], "is not a folder"),
        (["EMPTY"], "No truth in"),
        (["IN", "--engine", "tessaract"], "no engine 'tessaract'"),
        (["IN", "--engine", ","], "at least one engine"),
        (["IN", "--language", "xx"], "Unknown language 'xx'"),
        (["IN", "--workers", "0"], "whole number"),
    ],
)
def test_bad_arguments_exit_with_2(arguments: list[str], message: str, tmp_path: Path, png) -> None:
    """As a user meets it: a process, its exit status, its stderr without a traceback."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png())
    (tmp_path / "in/a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    places = {"IN": tmp_path / "in", "EMPTY": tmp_path / "empty", "NONE": tmp_path / "none"}
    words = [str(places.get(word, word)) for word in arguments]
    done = subprocess.run(
        [sys.executable, "manage.py", "ocr_evaluate", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DATA_DIR": str(tmp_path / "data")},
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.e2e
def test_real_engines_on_rendered_pages(tmp_path: Path) -> None:
    """A process of its own, embedded defaults, MLflow's own store: looked at by MLflow's client."""
    from mlflow import MlflowClient

    (tmp_path / "in").mkdir()
    samples = {sample.name: sample for sample in render_samples(tmp_path / "samples")}
    for sample in (samples["english-page"], samples["scanned-agreement"]):
        target = tmp_path / "in" / sample.path.name
        target.write_bytes(sample.path.read_bytes())
        target.with_suffix(".txt").write_text("\f".join(sample.truth))
    env = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"}
    command = [sys.executable, "manage.py", "ocr_evaluate", str(tmp_path / "in"), "--json"]
    command += ["--engine", "rapidocr,tesseract", "--language", "en", "--workers", "2"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**env, "DATA_DIR": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert [row["engine"] for row in body["engines"]] == ["rapidocr", "tesseract"]
    assert all(row["cer_micro"] < 0.05 for row in body["engines"])
    client = MlflowClient(f"sqlite:///{tmp_path / 'home/mlflow.db'}")
    experiment = client.get_experiment_by_name("ocr-evaluate")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.params["engine"] for run in runs} == {"rapidocr", "tesseract"}
    for run in runs:
        assert run.data.metrics["cer_micro"] < 0.05 and run.info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["per_page.csv"]
