"""Recognisers that are really trained: what they learn, how they stop, and go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

from finetune.engines.base import (
    CHECKPOINTS,
    EVENTS,
    RESULT,
    Finished,
    Looked,
    Metrics,
    Notice,
    Saved,
    Started,
    Stopped,
    TrainingFailed,
    TrainSpec,
    event_read,
)
from finetune.engines.checkpoints import COMPLETE
from ocr.scoring import score
from tests.finetune.recogniser import drawn
from tests.finetune.recogniser.drawn import LETTERS, Heard, line, rows_write, spec_of, words

drawn.ready()

import onnxruntime  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from finetune.engines.ocr_recognition import train  # noqa: E402
from finetune.engines.recogniser.characters import Alphabet  # noqa: E402
from finetune.engines.recogniser.lines import batch_of, grey_line  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
# The first of its tests trains a recogniser that reads.
pytestmark = pytest.mark.timeout(600)
SMALL = {"channels": 8, "hidden": 16, "batch_size": 8, "max_steps": 40, "save_steps": 8}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """60 lines to learn from, 10 to try."""
    random = Random(5)
    rows_write(tmp_path, "train", [words(random) for _ in range(60)], seed=5)
    rows_write(tmp_path, "validation", [words(random) for _ in range(10)], seed=6)
    return tmp_path


def small(work: Path, **options: object) -> TrainSpec:
    return spec_of(work, **(SMALL | options))


def weights(work: Path) -> bytes:
    return (work / RESULT / "recogniser.pth").read_bytes()


def copied(work: Path, place: Path) -> Path:
    return Path(shutil.copytree(work, place))


# -- what it learns -----------------------------------------------------------------------------


def test_it_reads_lines_that_it_has_not_seen() -> None:
    work, heard = drawn.trained()
    (finished,) = heard.of(Finished)
    assert finished.facts["metrics"]["eval_cer"] < 0.05
    assert finished.parity["fit"]
    # Read here by its ONNX file alone, lines of another seed.
    described = json.loads((work / RESULT / "recogniser.json").read_text())
    alphabet = Alphabet(described["characters"])
    session = onnxruntime.InferenceSession(work / RESULT / "recogniser.onnx")
    random, pairs = Random(77), []
    for _ in range(60):
        text = words(random)
        picture = grey_line(line(text, random), height=described["height"], most=256)
        (scores,) = session.run(None, {"lines": batch_of([picture])})
        pairs.append((text, alphabet.decode(scores[0].argmax(1).tolist())))
    assert score(pairs, casefold=False).cer_micro < 0.05


def test_it_tells_how_it_goes() -> None:
    work, heard = drawn.trained()
    (started,), (finished,) = heard.of(Started), heard.of(Finished)
    assert started.settings["characters"] == "".join(sorted({*LETTERS, " "}))
    assert started.settings["train_rows"] == 500
    points = heard.of(Metrics)
    told = {name for point in points for name in point.values}
    assert {"loss", "eval_loss", "eval_cer", "rows_per_second", "memory_bytes"} <= told
    tried = [point.values["eval_cer"] for point in points if "eval_cer" in point.values]
    assert tried[0] > 0.5
    assert finished.facts["metrics"]["eval_cer"] == min(tried)
    best = [saved.step for saved in heard.of(Saved) if saved.best][-1]
    assert finished.step == best
    described = json.loads((work / RESULT / "recogniser.json").read_text())
    assert described["cer"] == min(tried)
    # EasyOCR may have imported the module in there already.
    assert sorted(path.name for path in (work / RESULT).iterdir() if path.is_file()) == [
        f"recogniser.{ending}" for ending in ("json", "onnx", "pth", "py", "yaml")
    ]


# -- stopped, killed, gone on with ----------------------------------------------------------------


def test_killed_and_gone_on_with_it_ends_in_the_same_weights(work: Path, tmp_path: Path) -> None:
    cut = copied(work, tmp_path / "cut")
    spec = small(cut)
    process = subprocess.Popen(
        [sys.executable, "-m", "finetune.engines.process", str(spec.write())],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    first = _first_saved(process, cut / EVENTS)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    # As if it had been killed right there, however far it came on a machine in a hurry.
    for folder in (cut / CHECKPOINTS).iterdir():
        if folder.name != first.name:
            shutil.rmtree(folder)
    shutil.rmtree(cut / RESULT, ignore_errors=True)
    assert (cut / CHECKPOINTS / first.name / COMPLETE).is_file()
    heard, whole = Heard(), Heard()
    train(replace(spec, resume=str(cut / CHECKPOINTS / first.name)), heard)
    train(small(work), whole)
    assert heard.of(Started)[0].start_step == first.step
    assert _tried(heard) == [point for point in _tried(whole) if point[0] > first.step]
    assert weights(cut) == weights(work)


def _first_saved(process: subprocess.Popen[bytes], events: Path) -> Saved:
    until = time.monotonic() + 100
    while time.monotonic() < until and process.poll() is None:
        lines = events.read_text().splitlines(keepends=True) if events.exists() else []
        for told in (event_read(one) for one in lines if one.endswith("\n")):
            if isinstance(told, Saved):
                return told
        time.sleep(0.05)
    raise AssertionError(f"No checkpoint; the trainer's status is {process.poll()}.")


def _tried(heard: Heard) -> list[tuple[int, float, float]]:
    return [
        (point.step, point.values["eval_loss"], point.values["eval_cer"])
        for point in heard.of(Metrics)
        if "eval_cer" in point.values
    ]


def test_stopped_in_between_and_gone_on_with(work: Path, tmp_path: Path) -> None:
    """Between two batches of an epoch, with batches that come in two."""
    options = {"log_steps": 1, "gradient_accumulation": 2, "max_steps": 12, "save_steps": 100}
    cut, heard = copied(work, tmp_path / "cut"), Heard(stop_at=5)
    train(small(cut, **options), heard)
    (stopped,) = heard.of(Stopped)
    assert stopped.step == heard.of(Saved)[-1].step < 12
    assert not heard.of(Finished)
    after = Heard()
    checkpoint = cut / CHECKPOINTS / f"checkpoint-{stopped.step}"
    train(replace(small(cut, **options), resume=str(checkpoint)), after)
    train(small(work, **options), whole := Heard())
    assert after.of(Finished)[0].step == whole.of(Finished)[0].step
    assert weights(cut) == weights(work)


def test_another_seed_gives_other_weights(work: Path, tmp_path: Path) -> None:
    other = copied(work, tmp_path / "other")
    train(small(work, max_steps=2), Heard())
    train(small(other, max_steps=2, seed=7), Heard())
    assert weights(work) != weights(other)


def test_weights_of_another_run_with_other_characters(work: Path, tmp_path: Path) -> None:
    """What both tell apart is kept; what is new is learnt from the beginning."""
    train(small(work, max_steps=3), Heard())
    before = work / CHECKPOINTS / "checkpoint-3"
    other = tmp_path / "other"
    rows_write(other, "train", ["XYZ 01", "AB XZ"] * 4, seed=1)
    heard = Heard()
    # At no learning rate at all, what comes out is what it began with.
    train(replace(small(other, max_steps=1, learning_rate=0.0), begin_with=str(before)), heard)
    after = load_file(other / CHECKPOINTS / "checkpoint-1" / "model.safetensors")
    old = load_file(before / "model.safetensors")
    theirs, ours = (
        json.loads((folder / "characters.json").read_text())
        for folder in (before, other / CHECKPOINTS / "checkpoint-1")
    )
    assert ours == " 01ABXYZ"
    for name in ("network.choose.weight", "network.glance.bias"):
        assert torch.equal(after[name][0], old[name][0])
        for letter in " 01AB":
            here, there = ours.index(letter) + 1, theirs.index(letter) + 1
            assert torch.equal(after[name][here], old[name][there])
    assert torch.equal(after["network.read.weight_ih_l0"], old["network.read.weight_ih_l0"])
    (notice,) = heard.of(Notice)
    assert "new: XYZ; no longer there: 23456789CEHT" in notice.message


# -- what is refused, and what is told of ---------------------------------------------------------


def test_lines_with_characters_that_are_not_asked_for_are_left_out(work: Path) -> None:
    heard = Heard()
    rows_write(work, "train", ["AB 12", "AB é2", "Éé", "AA"] * 3, seed=1)
    rows_write(work, "validation", ["AB", "ÉA"], seed=2)
    train(small(work, max_steps=1, characters="AB12"), heard)
    left_out, unknown = heard.of(Notice)
    assert left_out.level == "warn"
    assert "6 of 12 training lines are left out: 'characters' lacks “é” (6 lines)" in (
        left_out.message
    )
    assert "“É” (1 line). Each counts as an error" in unknown.message
    assert heard.of(Started)[0].settings["train_rows"] == 6
    assert heard.of(Started)[0].settings["characters"] == " 12AB"


def test_characters_that_leave_no_line_are_refused(work: Path) -> None:
    with pytest.raises(TrainingFailed, match="No training line is spelled") as caught:
        train(small(work, characters="xyz"), Heard())
    assert caught.value.code == "bad_rows"


def test_a_text_too_long_for_its_picture_is_left_out(work: Path) -> None:
    heard = Heard()
    cv2.imwrite(str(work / "images" / "train-0.png"), np.zeros((32, 9), np.uint8))
    train(small(work, max_steps=1), heard)
    assert "1 of 60 training lines are left out: their pictures are too narrow" in (
        heard.of(Notice)[0].message
    )


def test_a_picture_that_is_none_is_named(work: Path) -> None:
    (work / "images" / "train-3.png").write_bytes(b"no picture")
    with pytest.raises(TrainingFailed, match=r"train-3\.png .* is no picture") as caught:
        train(small(work), Heard())
    assert caught.value.code == "bad_rows"


def test_a_loss_that_is_no_number_ends_it(work: Path) -> None:
    train(small(work, max_steps=1), Heard())
    checkpoint = work / CHECKPOINTS / "checkpoint-1"
    broken = load_file(checkpoint / "model.safetensors")
    broken["network.choose.bias"][:] = float("nan")
    save_file(broken, checkpoint / "model.safetensors")
    with pytest.raises(TrainingFailed, match=r"diverged\. Lower 'learning_rate'") as caught:
        train(replace(small(work), begin_with=str(checkpoint)), Heard())
    assert caught.value.code == "diverged"


def test_a_network_of_another_size_can_not_be_begun_with(work: Path) -> None:
    train(small(work, max_steps=1), Heard())
    checkpoint = str(work / CHECKPOINTS / "checkpoint-1")
    with pytest.raises(TrainingFailed, match="'height', 'channels' and 'hidden'") as caught:
        train(replace(small(work, hidden=24), begin_with=checkpoint), Heard())
    assert caught.value.code == "bad_model"
    with pytest.raises(TrainingFailed, match="no checkpoint of a recogniser"):
        train(replace(small(work), begin_with=str(work / "rows")), Heard())


@pytest.mark.parametrize(
    ("languages", "said"), [("klingon", "Unknown language"), (" ,", "name one")]
)
def test_languages_are_checked(work: Path, languages: str, said: str) -> None:
    with pytest.raises(TrainingFailed, match=said):
        train(small(work, languages=languages), Heard())


def test_languages_by_easyocrs_codes_and_by_any_name(work: Path) -> None:
    heard = Heard()
    train(small(work, max_steps=1, languages="ch_sim, korean,en"), heard)
    assert heard.of(Finished)[0].facts["languages"] == ["zh-Hans", "ko", "en"]


# -- a dry run ------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_come(work: Path) -> None:
    heard = Heard()
    train(replace(small(work, max_steps=0, epochs=4), mode="dry", measured_steps=2), heard)
    (looked,) = heard.of(Looked)
    report = looked.report
    assert (report["rows"], report["validation_rows"], report["dropped"]) == (60, 10, 0)
    assert (report["epoch_steps"], report["steps"]) == (8, 32)
    assert report["characters"]["text"] == "".join(sorted({*LETTERS, " "}))
    assert report["lengths"]["most"] <= 11
    assert 32 < report["widths"]["p50"] <= report["widths"]["most"] <= 256
    assert report["time"]["measured_steps"] == 2
    assert report["time"]["seconds"] == pytest.approx(32 * report["time"]["seconds_a_step"])
    memory = report["memory"]
    assert memory["total"] == sum(
        memory[name] for name in ("weights", "gradients", "optimizer", "activations", "process")
    )
    assert memory["optimizer"] == 8 * report["settings"]["parameters"]
    assert len(report["examples"]) == 3
    shown = report["examples"][0]
    first = json.loads((work / "rows" / "train.jsonl").read_text().splitlines()[0])
    assert shown["runs"] == [{"text": first["text"], "loss": True}]
    assert shown["picture"].startswith("data:image/png;base64,")
    assert any("All is over after 32 steps" in warning for warning in report["warnings"])
    assert not (work / CHECKPOINTS).exists() and not (work / RESULT).exists()
    json.dumps(report)


def test_the_time_without_a_try_is_of_the_same_order(work: Path) -> None:
    """By formula it is a guess, not a fairy tale."""
    tried, reckoned = Heard(), Heard()
    train(replace(small(work, channels=32, hidden=96), mode="dry", measured_steps=2), tried)
    train(replace(small(work, channels=32, hidden=96), mode="dry", measured_steps=0), reckoned)
    (one,), (other,) = tried.of(Looked), reckoned.of(Looked)
    assert other.report["time"]["measured_steps"] == 0
    assert other.report["memory"]["measured"] is None
    assert 0 < other.report["time"]["seconds_a_step"] < 60 * one.report["time"]["seconds_a_step"]
