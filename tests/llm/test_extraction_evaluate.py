"""`manage.py llm_evaluate_extraction`: an engine against the values that stand beside documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from llm import held
from llm.models import ExtractionTemplate, LanguageModel
from mlops import engines, tracking
from mlops.settings import ENGINES
from ocr.models import OcrJob
from tests.environment import DATA
from tests.factories import png
from tests.fakes import FAKE_ENGINES

Run = Callable[..., SimpleNamespace]
SCHEMA = {"type": "object", "properties": {"width": {"type": "integer"}, "note": {}}}


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tracking.RunRecord] = []

    def log(self, record: tracking.RunRecord) -> None:
        self.records.append(record)


@pytest.fixture
def run(transactional_db, settings, capsys, monkeypatch) -> Iterator[Run]:
    """Runs the command in this process; `.runs` are what MLflow would have been told."""
    language = {"fake": {"BACKEND": "tests.fakes.FakeLanguageEngine"}}
    settings.ENGINES = {**FAKE_ENGINES, "llm": language}
    settings.OCR_DEFAULT_ENGINE = "fake"
    engines._caches.clear()
    ExtractionTemplate.objects.create(name="wide", schema=SCHEMA)
    recorder = Recorder()
    monkeypatch.setattr("llm.management.commands.llm_evaluate_extraction.tracker", lambda: recorder)

    def command(folder: Path, *options: str) -> SimpleNamespace:
        recorder.records.clear()
        code = 0
        try:
            name, given = "llm_evaluate_extraction", ("--template", "wide", "--workers=1")
            call_command(name, str(folder), *given, *options)
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err, runs=list(recorder.records))

    yield command
    held.holder.close()
    engines._caches.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images for an engine that says how wide each is; of one the truth is another."""
    folder = tmp_path / "data"
    folder.mkdir()
    for width, truth in ((50, 50), (60, 60), (70, 71)):
        (folder / f"{width}.png").write_bytes(png(width))
        (folder / f"{width}.json").write_text(json.dumps({"width": truth, "note": ""}))
    (folder / "alone.png").write_bytes(png(80))
    return folder


def line(out: str, field: str) -> list[str]:
    return next(one.split() for one in out.splitlines() if one.startswith(field))


def test_the_rules_are_scored_and_nothing_is_read_twice(run, folder: Path, tmp_path: Path) -> None:
    report, cache = tmp_path / "report.json", tmp_path / "cache"
    done = run(folder, "--cache", str(cache), "--out", str(report), "--misses")
    assert done.code == 0, done.err
    assert line(done.out, "width") == ["width", "3", "0.667", "0.667", "0.667", "0", "1"]
    assert line(done.out, "micro")[2] == "0.667"
    # An empty truth says nothing.
    assert "note" not in done.out
    assert line(done.out, "70.png") == ["70.png", "width", "71", "70", "0.00"]
    body = json.loads(report.read_text())
    assert body["engine"] == "rules" and body["figures"][0]["field"] == "width"
    assert {one["name"]: one["values"] for one in body["documents"]}["50.png"] == {"width": 50}
    (record,) = done.runs
    assert record.metrics["width_exact"] == pytest.approx(2 / 3) and record.succeeded
    assert record.experiment == "extraction-evaluate"

    assert len(list(cache.iterdir())) == 3 and OcrJob.objects.count() == 3
    LanguageModel.objects.create(name="small", engine="fake", source="somewhere")
    again = run(folder, "--cache", str(cache), "--engine", "small")
    assert OcrJob.objects.count() == 3
    # This model says 7 of every number.
    assert line(again.out, "width")[2] == "0.000" and "engine small" in again.out
    assert again.runs[0].metrics["completion_tokens"] > 0


def test_a_document_that_gives_nothing_counts_as_missing(run, folder: Path) -> None:
    (folder / "60.png").write_bytes(b"no image")
    done = run(folder)
    assert done.code == 1 and "60.png" in done.err
    assert line(done.out, "width") == ["width", "3", "0.333", "0.333", "0.333", "1", "1"]
    assert not done.runs[0].succeeded


def test_the_first_ones_alone(run, folder: Path) -> None:
    assert "1 documents" in run(folder, "--limit", "1").out


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (lambda folder: folder / "nowhere", [], "not a folder"),
        (lambda folder: (folder / "50.json").write_text("{") and folder, [], "no JSON"),
        (lambda folder: (folder / "50.json").write_text("[]") and folder, [], "a JSON object"),
        (lambda folder: folder, ["--engine", "gone"], "gone"),
        (lambda folder: folder, ["--template", "gone"], "no template 'gone'"),
        (lambda folder: folder, ["--limit", "0"], "whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(run, folder: Path, spoil, options, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(spoil(folder), *options)


@pytest.mark.data
def test_real_receipts_keep_their_figures(run, settings, tmp_path: Path) -> None:
    """A few scans by the default engine and the rules."""
    settings.ENGINES = ENGINES
    settings.OCR_DEFAULT_ENGINE = "rapidocr"
    engines._caches.clear()
    for source in sorted((DATA / "receipts").glob("*.json"))[:3]:
        for suffix in (".json", ".jpg"):
            (tmp_path / source.with_suffix(suffix).name).symlink_to(source.with_suffix(suffix))
    receipt = ExtractionTemplate.objects.get(name="receipt")
    ExtractionTemplate.objects.filter(name="wide").update(schema=receipt.schema)
    done = run(tmp_path)
    assert done.code == 0, done.err
    for field in ("company", "date", "address", "total"):
        assert float(line(done.out, field)[3]) > 0.6, done.out
